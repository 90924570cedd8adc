"""A real SMTP server for tests: writes every mail that it takes into a folder, one file each.

    smtp_server.py PORT FOLDER [--certificate FILE --key FILE]

With a certificate it wants STARTTLS. Says `ready PORT` when it listens; port 0 is any that is free. Recipients tell it
how to behave: `refused@` is refused for good, `later@` for now.
"""

import argparse
import asyncio
import json
import os
import ssl
import sys
import tempfile

from aiosmtpd.smtp import SMTP


class Folder:
    def __init__(self, path):
        self.path = path

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 no such mailbox"
        if address.startswith("later@"):
            return "451 come again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "content": envelope.content.decode("latin-1"),
        }
        handle, draft = tempfile.mkstemp(dir=self.path, suffix=".draft")
        with os.fdopen(handle, "w") as file:
            json.dump(mail, file)
        os.rename(draft, draft.removesuffix(".draft") + ".mail")
        return "250 OK"


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    args = parser.parse_args()
    context = None
    if args.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.certificate, args.key)
    handler = Folder(args.folder)

    def session():
        return SMTP(handler, tls_context=context, require_starttls=context is not None, enable_SMTPUTF8=True)

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", args.port)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    # Ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
