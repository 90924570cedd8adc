"""Reads mails as a mail program does: folder in, JSON out, with headers decoded."""

import email.policy
import json
import pathlib
import sys

mails = []
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.mail")):
    mail = json.loads(path.read_text())
    content = mail["content"].encode("latin-1")
    message = email.message_from_bytes(content, policy=email.policy.default)
    mails.append(
        {
            "from": mail["from"],
            "to": mail["to"],
            "tls": mail["tls"],
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "header_names": [name.lower() for name in message.keys()],
            "plain": message.get_body(("plain",)).get_content(),
            "html": html.get_content() if (html := message.get_body(("html",))) else "",
            "defects": [str(defect) for part in message.walk() for defect in part.defects],
        }
    )
json.dump(mails, sys.stdout)
