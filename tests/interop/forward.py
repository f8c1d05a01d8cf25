"""Calls WeChat through a host with a WeChat library that is not ours (wechatpy).

Reads a task from standard input as JSON (base, app_id, key, user). Of the library only the base address
is changed, and the API key stands where the access token would. Prints what the library understood.
"""

import io
import json
import os
import sys

# The library is to talk to the host, not to a proxy of the machine.
os.environ["NO_PROXY"] = "127.0.0.1"

from wechatpy import WeChatClient
from wechatpy.exceptions import WeChatClientException


def main():
    task = json.load(sys.stdin)

    class Client(WeChatClient):
        API_BASE_URL = f"{task['base']}/wechat/{task['app_id']}/cgi-bin/"

    client = Client(task["app_id"], "no secret is needed", access_token=task["key"])
    told = {}
    told["followers"] = client.user.get_followers()["data"]["openid"]
    told["user"] = client.user.get(task["user"])["openid"]
    told["sent"] = client.message.send_text(task["user"], task["text"])["errcode"]
    buttons = [{"type": "click", "name": "今日茶单", "key": "TEA"}]
    told["menu"] = client.menu.create({"button": buttons})["errcode"]
    told["button"] = client.menu.get()["menu"]["button"][0]["name"]
    # A form with a file, and its bytes back.
    picture = bytes.fromhex(task["picture"])
    media = client.media.upload("image", ("tea.png", io.BytesIO(picture), "image/png"))
    told["picture"] = client.media.download(media["media_id"]).content.hex()
    # WeChat's own refusals come through as they are.
    try:
        client.user.get("oNobodyThatAnybodyKnows0000")
    except WeChatClientException as refusal:
        told["refusal"] = refusal.errcode
    print(json.dumps(told))


main()
