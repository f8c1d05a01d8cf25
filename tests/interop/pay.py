"""Sells with a library for WeChat Pay that is not ours (wechatpayv3), at the pretend WeChat Pay.

Reads a task from standard input as JSON (wechat, merchant, app_id, user, invocation). Of the library only WeChat's
address is changed. It signs and the pretend WeChat Pay verifies; that one signs and seals, and the library verifies
and opens. `invocation` is what a host gave to a payer: the library signs the same, which must come to the same.
Prints what the library understood.
"""

import json
import os
import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

# The library is to talk to the pretend WeChat, not to a proxy of the machine.
os.environ["NO_PROXY"] = "127.0.0.1"

import requests
from cryptography.x509 import load_pem_x509_certificate
from wechatpayv3 import WeChatPay, WeChatPayType
from wechatpayv3.core import Core

NUMBER = "library-000001"


def merchant_of(task, notify_url):
    merchant = task["merchant"]
    # It stands in the library's constructor, which calls it already.
    Core._gate_way = property(lambda _: task["wechat"], lambda _, address: None)
    certificate = load_pem_x509_certificate(merchant["certificate"].encode())
    public_key = merchant["public_key"] or {}
    return WeChatPay(
        wechatpay_type=WeChatPayType.JSAPI,
        mchid=merchant["mch_id"],
        private_key=merchant["private_key"],
        cert_serial_no=f"{certificate.serial_number:X}",
        appid=task["app_id"],
        apiv3_key=merchant["v3_key"],
        notify_url=notify_url,
        public_key=public_key.get("pem"),
        public_key_id=public_key.get("id"),
    )


def listen(told):
    """Takes notices, and acknowledges them."""

    class Notices(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["content-length"])
            told.put((dict(self.headers), self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Notices)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/notices"


def signed(library, invocation):
    members = ["appId", "timeStamp", "nonceStr", "package"]
    return library.sign([invocation[member] for member in members])


def main():
    task = json.load(sys.stdin)
    told = queue.Queue()
    library = merchant_of(task, listen(told))

    def said(answer):
        status, text = answer
        return {"status": status, **(json.loads(text) if text else {})}

    def heard():
        # Names as they stand in WeChat's documents, whatever HTTP does to them.
        headers, body = told.get(timeout=20)
        headers = {name.title(): value for name, value in headers.items()}
        return library.callback(headers, body)

    amount = {"total": 800, "currency": "CNY"}
    order = said(library.pay("龙井一两", NUMBER, amount, payer={"openid": task["user"]}))
    invocation = {
        "appId": task["app_id"],
        "timeStamp": str(int(time.time())),
        "nonceStr": "n1",
        "package": f"prepay_id={order['prepay_id']}",
        "signType": "RSA",
    }
    invocation["paySign"] = signed(library, invocation)
    invoked = requests.post(
        f"{task['wechat']}/_sim/pay/invoke", json={**invocation, "open_id": task["user"]}
    ).json()
    paid = heard()["resource"]
    query = said(library.query(out_trade_no=NUMBER))
    refund = said(library.refund("refund-1", {"refund": 300, **amount}, out_trade_no=NUMBER))
    refunded = heard()["resource"]
    again = said(library.query_refund("refund-1"))
    unpaid = said(library.pay("龙井一两", f"{NUMBER}-2", amount, payer={"openid": task["user"]}))
    closed = said(library.close(f"{NUMBER}-2"))
    wrong = said(library.pay("龙井一两", NUMBER, {**amount, "total": 0}, payer={"openid": task["user"]}))
    print(
        json.dumps(
            {
                "invoked": invoked["err_msg"],
                "paid": [paid["trade_state"], paid["amount"]["total"], paid["payer"]["openid"]],
                "query": query["trade_state"],
                "refund": [refund["status"], refund["amount"]["refund"]],
                "refunded": refunded["refund_status"],
                "again": again["status"],
                "unpaid": unpaid["status"],
                "closed": closed["status"],
                "wrong": wrong["status"],
                "signs_alike": signed(library, task["invocation"]) == task["invocation"]["paySign"],
            }
        )
    )


main()
