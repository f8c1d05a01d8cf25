"""Answers a text."""

import wit_world.exports
from wit_world.exports.callback_handler import Outcome
from wit_world.imports.callback import Content_Text
from wit_world.imports.reply import Reply_Text


class CallbackHandler(wit_world.exports.CallbackHandler):
    def handle(self, event):
        match event.content:
            case Content_Text(_):
                return Outcome(Reply_Text("hello from Python"), [])
            case _:
                return Outcome(None, [])
