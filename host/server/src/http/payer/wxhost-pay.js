// Pays an order inside WeChat, and says what became of it.
//
//   wxhostPay({ invocation, state, changed }) -> Promise of 'paid', 'closed', 'cancelled', 'failed' or 'unknown'
//
// `invocation`: what the host's API gave for the order, or a function that gives (a promise of) it.
// `state`: a function that gives (a promise of) how the order stands: 'unpaid', 'paid', 'closed' …
// `changed`: called with each new state, if given.
//
// WeChat's own word on a payment is not believed: a page can be told anything. What counts is what the host says,
// which is asked for until it is settled, also when the phone comes back from the page for the password.
(function () {
  'use strict';
  var PAUSE_MS = 1000, MOST_PAUSES = 60;

  function bridge() {
    return new Promise(function (resolve, reject) {
      if (window.WeixinJSBridge) { resolve(window.WeixinJSBridge); return; }
      var timer = setTimeout(function () { reject(new Error('not inside WeChat')); }, 5000);
      document.addEventListener('WeixinJSBridgeReady', function () {
        clearTimeout(timer);
        resolve(window.WeixinJSBridge);
      }, { once: true });
    });
  }

  function pause() {
    return new Promise(function (resolve) {
      var timer = setTimeout(done, PAUSE_MS);
      function done() {
        clearTimeout(timer);
        document.removeEventListener('visibilitychange', seen);
        window.removeEventListener('pageshow', done);
        resolve();
      }
      function seen() { if (!document.hidden) { done(); } }
      document.addEventListener('visibilitychange', seen);
      window.addEventListener('pageshow', done);
    });
  }

  function settled(state, changed) {
    var last;
    function look(left) {
      return Promise.resolve(state()).catch(function () { return last; }).then(function (now) {
        if (now !== last && changed && now) { changed(now); }
        last = now;
        if (now === 'paid' || now === 'closed' || now === 'failed') { return now; }
        return left > 0 ? pause().then(function () { return look(left - 1); }) : 'unknown';
      });
    }
    return look(MOST_PAUSES);
  }

  function value(given) { return typeof given === 'function' ? given() : given; }

  window.wxhostPay = function (order) {
    return Promise.resolve(value(order.invocation)).then(function (parameters) {
      if (!parameters) { return settled(order.state, order.changed); }
      return bridge().then(function (it) {
        return new Promise(function (resolve) {
          it.invoke('getBrandWCPayRequest', parameters, function (answer) {
            resolve(String((answer && answer.err_msg) || ''));
          });
        });
      }).then(function (message) {
        if (/:cancel$/.test(message)) { return 'cancelled'; }
        if (!/:ok$/.test(message)) { return 'failed'; }
        return settled(order.state, order.changed);
      });
    });
  };
  window.wxhostPay.settled = settled;
})();
