# SPDX-License-Identifier: MIT OR GPL-2.0-or-later
"""HTTP/3 over QUIC, both ends: a server that sends a body back, and a client that says whether it got what it had sent.

    quic.py serve ADDRESS PORT [no-migration]
    quic.py fetch ADDRESS PORT BYTES
"""

import asyncio
import datetime
import hashlib
import ipaddress
import ssl
import sys
import tempfile

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import connection
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PATIENCE = 120


class Http3(QuicConnectionProtocol):
    """What both ends do: bodies are collected until their stream ends."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.bodies = {}
        self.statuses = {}
        self.done = {}

    def quic_event_received(self, event):
        for happened in self.http.handle_event(event):
            stream = happened.stream_id
            if isinstance(happened, HeadersReceived):
                self.statuses[stream] = dict(happened.headers).get(b":status")
                self.bodies.setdefault(stream, b"")
            elif isinstance(happened, DataReceived):
                self.bodies[stream] += happened.data
            if getattr(happened, "stream_ended", False):
                self.ended(stream)

    def say(self, stream, headers, body):
        self.http.send_headers(stream, headers)
        self.http.send_data(stream, body, end_stream=True)
        self.transmit()

    def ended(self, stream):
        if stream in self.done:
            self.done[stream].set_result(None)
        else:
            peer = str(self._quic._network_paths[0].addr[0]).encode()
            self.say(stream, [(b":status", b"200"), (b"client", peer)], self.bodies[stream])


def certificate():
    """A key and a certificate that it signed itself, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.org")]), False)
        .sign(key, hashes.SHA256())
    )
    file = tempfile.NamedTemporaryFile(suffix=".pem")
    file.write(made.public_bytes(serialization.Encoding.PEM))
    file.write(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    file.flush()
    return file


def forbid_migration():
    """Has this end say disable_active_migration (RFC 9000, 18.2), for which the library has no option."""
    push = connection.push_quic_transport_parameters

    def said(buffer, parameters):
        parameters.disable_active_migration = True
        push(buffer, parameters)

    connection.push_quic_transport_parameters = said


async def server(address, port):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    with certificate() as file:
        configuration.load_cert_chain(file.name)
    await serve(address, port, configuration=configuration, create_protocol=Http3)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def client(address, port, size):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    configuration.verify_mode = ssl.CERT_NONE
    configuration.server_name = "example.org"
    body = hashlib.shake_256(b"detour").digest(size)
    host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    headers = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/")]
    headers.append((b":authority", host.encode()))
    async with connect(address, port, configuration=configuration, create_protocol=Http3) as http:
        stream = http._quic.get_next_available_stream_id()
        http.done[stream] = asyncio.get_running_loop().create_future()
        http.say(stream, headers, body)
        await http.done[stream]
        same = http.bodies[stream] == body
        print(f"{http.statuses[stream].decode()} {len(http.bodies[stream])} bytes, intact: {same}")


def main():
    what, address, port, *rest = sys.argv[1:]
    if what == "serve":
        if rest == ["no-migration"]:
            forbid_migration()
        asyncio.run(server(address, int(port)))
    else:
        asyncio.run(asyncio.wait_for(client(address, int(port), int(rest[0])), PATIENCE))


main()
