// The host's own page for a payer: its button, and what it says.
(function () {
  'use strict';
  var SAID = {
    unpaid: '待支付', 'new': '待支付', paid: '支付成功', closed: '订单已关闭', failed: '支付没有成功，请再试一次',
    cancelled: '已取消，可以再次支付', unknown: '还没有收到支付结果，请稍后刷新', waiting: '正在确认支付结果…'
  };
  var button = document.getElementById('pay');
  var shown = document.getElementById('state');
  var base = location.pathname.replace(/\/$/, '');

  function show(state) {
    shown.dataset.state = state;
    shown.textContent = SAID[state] || state;
    if (button) {
      button.hidden = state === 'paid' || state === 'closed';
      button.disabled = state === 'waiting';
    }
  }

  function ask(path, method) {
    return fetch(base + path, { method: method, credentials: 'same-origin' }).then(function (answer) {
      if (answer.status === 401) { location.reload(); }
      return answer.json();
    });
  }

  function state() { return ask('/state', 'GET').then(function (it) { return it.state; }); }

  if (!button) { return; }
  button.addEventListener('click', function () {
    button.disabled = true;
    window.wxhostPay({
      invocation: function () {
        return ask('/invocation', 'POST').then(function (it) {
          if (it.error) { throw new Error(it.error); }
          return it.invocation;
        });
      },
      state: state,
      changed: function (now) { show(now === 'unpaid' ? 'waiting' : now); }
    }).then(show, function () { show('failed'); });
  });
  // Whoever comes back to a page that was kept sees what has become of the order meanwhile.
  window.addEventListener('pageshow', function (event) {
    if (event.persisted) { state().then(function (now) { show(now); }); }
  });
})();
