-- WeChat Pay (微信支付): merchants, and the ledger of what people pay to them. Amounts are whole fen of CNY.

-- Merchants (商户). `v3_keys_sealed` is a JSON list: the APIv3 key, and a second one while it is being changed.
CREATE TABLE merchants (
    mch_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    -- 'active' or 'disabled'.
    status TEXT NOT NULL,
    -- Where WeChat Pay notifies, and where payers find the host's pages.
    public_url TEXT NOT NULL,
    v3_keys_sealed TEXT NOT NULL,
    -- Which of WeChat Pay's keys answers are to be signed with, by serial; its platform certificate where NULL.
    answers_by TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

-- A merchant's API certificates (商户API证书): the newest signs, up to three are good at once.
CREATE TABLE merchant_certificates (
    mch_id TEXT NOT NULL REFERENCES merchants (mch_id) ON DELETE CASCADE,
    serial TEXT NOT NULL,
    key_sealed TEXT NOT NULL,
    -- When it ends, where that is known.
    ends_at BIGINT,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (mch_id, serial)
);

-- What WeChat Pay signs with, as it is known to a merchant: platform certificates (平台证书) and its public key
-- (微信支付公钥), by what stands in `Wechatpay-Serial`.
CREATE TABLE merchant_platform_keys (
    mch_id TEXT NOT NULL REFERENCES merchants (mch_id) ON DELETE CASCADE,
    serial TEXT NOT NULL,
    pem TEXT NOT NULL,
    ends_at BIGINT,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (mch_id, serial)
);

-- Which merchants an account's orders are paid to, and what its plugin and its tenant's systems may do there.
CREATE TABLE account_merchants (
    app_id TEXT NOT NULL REFERENCES accounts (app_id) ON DELETE CASCADE,
    mch_id TEXT NOT NULL REFERENCES merchants (mch_id) ON DELETE CASCADE,
    -- Of a partner (服务商): for whom, and under which app id of the partner's where it is not the account's.
    sub_mch_id TEXT,
    partner_app_id TEXT,
    -- JSON: limits in fen, refunds or not.
    grants TEXT NOT NULL,
    PRIMARY KEY (app_id, mch_id)
);
CREATE INDEX account_merchants_of_merchant ON account_merchants (mch_id);

-- What is to be paid for. `request_digest` tells a repetition from another order under the same number.
-- `state` is 'new' (WeChat may not know it yet), 'unpaid', 'paid', 'closed' or 'failed'.
CREATE TABLE orders (
    app_id TEXT NOT NULL,
    mch_id TEXT NOT NULL,
    out_trade_no TEXT NOT NULL,
    state TEXT NOT NULL,
    -- JSON: where it is paid.
    scene TEXT NOT NULL,
    open_id TEXT,
    description TEXT NOT NULL,
    total BIGINT NOT NULL,
    attach TEXT,
    request_digest TEXT NOT NULL,
    -- What WeChat gave for it, and when: an id, or an address.
    prepay TEXT,
    prepaid_at BIGINT,
    transaction_id TEXT,
    payer_total BIGINT,
    paid_at BIGINT,
    error TEXT,
    -- 1 where it is to be closed.
    is_closing BIGINT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- When a host asks WeChat about it next; while one does, when its lease ends.
    due_at BIGINT,
    looks BIGINT NOT NULL,
    lease_owner TEXT,
    PRIMARY KEY (app_id, mch_id, out_trade_no)
);
CREATE INDEX orders_due ON orders (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX orders_by_age ON orders (app_id, created_at);
CREATE INDEX orders_of_person ON orders (app_id, open_id, created_at) WHERE open_id IS NOT NULL;
CREATE INDEX orders_of_number ON orders (app_id, out_trade_no);

-- Money on its way back to who has paid. `state` is 'held' (somebody has to approve it), 'asked' (WeChat may not
-- know it yet), 'processing', 'succeeded', 'abnormal' or 'failed'.
CREATE TABLE refunds (
    app_id TEXT NOT NULL,
    mch_id TEXT NOT NULL,
    out_refund_no TEXT NOT NULL,
    out_trade_no TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    state TEXT NOT NULL,
    amount BIGINT NOT NULL,
    total BIGINT NOT NULL,
    reason TEXT,
    refund_id TEXT,
    error TEXT,
    -- Who asked: an event of the plugin's, a key, an operator, or the host itself.
    asked_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When it may be sent first: WeChat Pay wants a minute between refunds of an order.
    send_at BIGINT NOT NULL,
    ended_at BIGINT,
    due_at BIGINT,
    looks BIGINT NOT NULL,
    lease_owner TEXT,
    PRIMARY KEY (app_id, mch_id, out_refund_no)
);
CREATE INDEX refunds_due ON refunds (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX refunds_of_order ON refunds (app_id, mch_id, out_trade_no);
CREATE INDEX refunds_held ON refunds (app_id, created_at) WHERE state = 'held';

-- Double entry: each movement goes from one book to another, once under its reference. Books of an order
-- (`order/…`) and of a refund (`refund/…`) are never below zero, and have their balance here; the others
-- (`payers`) stand for the world.
CREATE TABLE ledger_movements (
    app_id TEXT NOT NULL,
    mch_id TEXT NOT NULL,
    reference TEXT NOT NULL,
    from_book TEXT NOT NULL,
    to_book TEXT NOT NULL,
    amount BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, mch_id, reference)
);
CREATE TABLE ledger_books (
    app_id TEXT NOT NULL,
    mch_id TEXT NOT NULL,
    book TEXT NOT NULL,
    balance BIGINT NOT NULL,
    PRIMARY KEY (app_id, mch_id, book)
);

-- Every turn of an order or a refund. Rows are never changed.
CREATE TABLE ledger_history (
    app_id TEXT NOT NULL,
    mch_id TEXT NOT NULL,
    -- 'order/…' or 'refund/…'.
    subject TEXT NOT NULL,
    number BIGINT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    -- What turned it.
    cause TEXT NOT NULL,
    turned_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, mch_id, subject, number)
);

-- What WeChat Pay has told, once for each fact, for good. `verdict` is 'applied' or 'flagged': what contradicts
-- the ledger is kept, whole, and never applied.
CREATE TABLE pay_notices (
    app_id TEXT NOT NULL,
    mch_id TEXT NOT NULL,
    -- Begins with the merchant: '1900000001/transaction/4200…', '1900000001/refund/5030…/SUCCESS'.
    fact TEXT NOT NULL,
    notice_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT,
    body_sealed TEXT,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, fact)
);
CREATE INDEX pay_notices_flagged ON pay_notices (app_id, received_at) WHERE verdict = 'flagged';

-- Facts that the account's plugin is told of, each once. `state` is 'due', 'done' or 'failed'.
CREATE TABLE pay_events (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    mch_id TEXT NOT NULL,
    -- 'paid', 'closed', 'refunded' or 'refund-failed'.
    kind TEXT NOT NULL,
    out_trade_no TEXT NOT NULL,
    out_refund_no TEXT,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_owner TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX pay_events_due ON pay_events (due_at) WHERE state = 'due';
CREATE INDEX pay_events_failed ON pay_events (app_id, created_at) WHERE state = 'failed';
