"""Talks to a host with a WeChat library that is not ours (wechatpy).

Reads an account from standard input as JSON (url, app_id, token, aes_key, original_id, user, text),
encrypts and signs a text message, posts it, opens the sealed reply and prints the reply's text.
"""

import json
import sys
import time
import urllib.parse
import urllib.request

import xmltodict
from wechatpy import create_reply, parse_message
from wechatpy.crypto import WeChatCrypto
from wechatpy.utils import WeChatSigner, check_signature, random_string


def message(account):
    return (
        "<xml>"
        f"<ToUserName><![CDATA[{account['original_id']}]]></ToUserName>"
        f"<FromUserName><![CDATA[{account['user']}]]></FromUserName>"
        f"<CreateTime>{int(time.time())}</CreateTime>"
        "<MsgType><![CDATA[text]]></MsgType>"
        f"<Content><![CDATA[{account['text']}]]></Content>"
        f"<MsgId>{time.time_ns()}</MsgId>"
        "</xml>"
    )


def plain_signature(token, timestamp, nonce):
    signer = WeChatSigner()
    signer.add_data(token, timestamp, nonce)
    check_signature(token, signer.signature, timestamp, nonce)
    return signer.signature


def main():
    account = json.load(sys.stdin)
    crypto = WeChatCrypto(account["token"], account["aes_key"], account["app_id"])
    timestamp, nonce = str(int(time.time())), random_string(10)

    sealed = crypto.encrypt_message(message(account), nonce, timestamp)
    envelope = xmltodict.parse(sealed)["xml"]
    query = urllib.parse.urlencode(
        {
            "signature": plain_signature(account["token"], timestamp, nonce),
            "timestamp": timestamp,
            "nonce": nonce,
            "openid": account["user"],
            "encrypt_type": "aes",
            "msg_signature": envelope["MsgSignature"],
        }
    )
    request = urllib.request.Request(
        f"{account['url']}?{query}", sealed.encode(), {"Content-Type": "text/xml"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answer = direct.open(request, timeout=10).read()

    outer = xmltodict.parse(answer)["xml"]
    reply = crypto.decrypt_message(answer, outer["MsgSignature"], outer["TimeStamp"], outer["Nonce"])
    fields = xmltodict.parse(reply)["xml"]
    assert fields["ToUserName"] == account["user"], fields
    assert fields["FromUserName"] == account["original_id"], fields
    assert fields["MsgType"] == "text", fields
    # Its parser of messages and ours agree on what a text is.
    assert parse_message(message(account)).content == account["text"]
    assert create_reply("x").type == "text"
    print(json.dumps({"text": fields["Content"]}))


main()
