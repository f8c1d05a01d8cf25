"""Logs a user in with a WeChat library that is not ours (wechatpy), through a host.

Reads a task from standard input as JSON (base, open_base, app_id, key, user, back). Of the library only the base
addresses are changed, and the API key stands where the AppSecret would. The user agrees on the pretend WeChat's
page, as a browser would. Prints what the library understood.
"""

import json
import os
import sys
from urllib.parse import parse_qs, parse_qsl, urlsplit

# The library is to talk to the host, not to a proxy of the machine.
os.environ["NO_PROXY"] = "127.0.0.1"

import requests
from wechatpy.exceptions import WeChatOAuthException
from wechatpy.oauth import WeChatOAuth


def main():
    task = json.load(sys.stdin)

    class OAuth(WeChatOAuth):
        API_BASE_URL = f"{task['base']}/wechat/{task['app_id']}/"
        OAUTH_BASE_URL = f"{task['open_base']}/connect/"

    oauth = OAuth(task["app_id"], task["key"], task["back"], "snsapi_userinfo", "s1")
    form = parse_qsl(urlsplit(oauth.authorize_url).query)
    form += [("open_id", task["user"]), ("consent", "allow")]
    led = requests.post(f"{task['open_base']}/_sim/authorize", data=form, allow_redirects=False)
    code = parse_qs(urlsplit(led.headers["location"]).query)["code"][0]

    told = {}
    told["user"] = oauth.fetch_access_token(code)["openid"]
    told["nickname"] = oauth.get_user_info()["nickname"]
    told["is_good"] = oauth.check_access_token()
    told["renewed"] = oauth.refresh_access_token(oauth.refresh_token)["openid"]
    told["again"] = oauth.get_user_info()["nickname"]
    # WeChat's own refusals come through as they are.
    try:
        oauth.fetch_access_token(code)
    except WeChatOAuthException as refusal:
        told["refusal"] = refusal.errcode
    print(json.dumps(told))


main()
