"""Plays a third-party platform's server with a WeChat library that is not ours (wechatpy).

Reads from standard input as JSON what the platform's console says (app_id, secret, token, aes_key), where
WeChat's API is (base) and where to listen (port). Takes what WeChat tells at /events until an account takes
its authorisation back, and prints what it has learned. With `tell`, the event URL of a host, it plays WeChat
instead: it seals a ticket, posts it there and prints the answer.
"""

import http.server
import json
import sys
import time
import urllib.parse

import requests
import xmltodict
from wechatpy.client import WeChatComponentClient
from wechatpy.component import WeChatComponent
from wechatpy.crypto import WeChatCrypto
from wechatpy.utils import WeChatSigner, random_string


def platform(task):
    base = task["base"] + "/cgi-bin"
    WeChatComponent.API_BASE_URL = base
    WeChatComponentClient.API_BASE_URL = base + "/"
    return WeChatComponent(
        task["app_id"], task["secret"], task["token"], task["aes_key"]
    )


def learned_of(component, app_id):
    client = component.get_client_by_appid(app_id)
    info = component.get_authorizer_info(app_id)
    component.set_authorizer_option(app_id, "voice_recognize", "1")
    option = component.get_authorizer_option(app_id, "voice_recognize")
    return {
        "app_id": app_id,
        "name": info["authorizer_info"]["nick_name"],
        "followers": client.user.get_followers()["data"]["openid"],
        "option": option["option_value"],
        "listed": component.get_authorizer_list()["total_count"],
    }


def serve(task):
    component = platform(task)
    told = []

    class Events(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            message = component.parse_message(
                body,
                query["msg_signature"][0],
                query["timestamp"][0],
                query["nonce"][0],
            )
            if message.type == "authorized":
                told.append(learned_of(component, message.authorizer_appid))
            elif message.type == "unauthorized":
                told.append({"withdrawn": message.authorizer_appid})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"success")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", task["port"]), Events)
    while not any("withdrawn" in one for one in told):
        server.handle_request()
    return {"told": told}


def tell(task):
    """Seals an event as WeChat does, and posts it; the answer."""
    timestamp, nonce = str(int(time.time())), random_string(10)
    crypto = WeChatCrypto(task["token"], task["aes_key"], task["app_id"])
    event = (
        f"<xml><AppId><![CDATA[{task['app_id']}]]></AppId>"
        f"<CreateTime>{timestamp}</CreateTime>"
        "<InfoType><![CDATA[component_verify_ticket]]></InfoType>"
        "<ComponentVerifyTicket><![CDATA[ticket@@@python]]></ComponentVerifyTicket></xml>"
    )
    sealed = xmltodict.parse(crypto.encrypt_message(event, nonce, timestamp))["xml"]
    signer = WeChatSigner()
    signer.add_data(task["token"], timestamp, nonce)
    query = {
        "signature": signer.signature,
        "timestamp": timestamp,
        "nonce": nonce,
        "encrypt_type": "aes",
        "msg_signature": sealed["MsgSignature"],
    }
    body = (
        f"<xml><AppId><![CDATA[{task['app_id']}]]></AppId>"
        f"<Encrypt><![CDATA[{sealed['Encrypt']}]]></Encrypt></xml>"
    )
    answer = requests.post(task["tell"], params=query, data=body, timeout=10)
    return {"status": answer.status_code, "answer": answer.text}


TASK = json.load(sys.stdin)
json.dump(tell(TASK) if "tell" in TASK else serve(TASK), sys.stdout)
