"""Records how a real geth answers JSON-RPC, by HTTP and by its unix socket, as a fixture for tests/unit/rpc.

usage: python -m tests.aids.geth_rpc_recording HTTP_PORT IPC_PATH OUT.json

The fixture keeps the raw request beside the raw answer: a test puts the very same bytes to our server.
geth must run with --http --http.api eth,net,web3,txpool,admin, with one peer.
"""

import http.client
import json
import socket
import sys
from pathlib import Path

ID = '"jsonrpc":"2.0","id":1'
ENODE = f"enode://{'00' * 64}@127.0.0.1:30303"


def call(method: str, params: str | None = None, *, id_: str = "1") -> str:
    tail = "" if params is None else f',"params":{params}'
    return f'{{"jsonrpc":"2.0","id":{id_},"method":"{method}"{tail}}}'


RESULTS = {
    "rpc_modules": call("rpc_modules"),
    "eth_chainId": call("eth_chainId"),
    "net_version": call("net_version"),
    "net_peerCount": call("net_peerCount"),
    "net_listening": call("net_listening"),
    "web3_clientVersion": call("web3_clientVersion"),
    "web3_sha3": call("web3_sha3", '["0x68656c6c6f"]'),
    "web3_sha3 of nothing": call("web3_sha3", '["0x"]'),
    "txpool_status": call("txpool_status"),
    "admin_nodeInfo": call("admin_nodeInfo"),
    "admin_peers": call("admin_peers"),
    "admin_datadir": call("admin_datadir"),
    "params null": call("eth_chainId", "null"),
    "params empty": call("eth_chainId", "[]"),
    "id is a string": call("eth_chainId", id_='"a\\u00e9\\n"'),
    "id is null": call("eth_chainId", id_="null"),
    "id is true": call("eth_chainId", id_="true"),
    "id is a fraction": call("eth_chainId", id_="1.50"),
    "id is beyond a double": call("eth_chainId", id_="1e400"),
    "id of many digits": call("eth_chainId", id_="9" * 5000),
    "unknown field": '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","extra":{"a":[1]}}',
    "escaped key": '{"jsonrpc":"2.0","id":1,"m\\u0065thod":"eth_chainId"}',
    "whitespace around": " \r\n\t" + call("eth_chainId") + " \n",
    "key twice": '{"jsonrpc":"2.0","id":1,"id":2,"method":"eth_chainId"}',
}

ERRORS = {
    "method unknown": call("eth_nothing"),
    "method without namespace": call("nothing"),
    "method of a namespace that is off": call("debug_metrics"),
    "method with markup": call("<b>\\u0007é"),
    "method name too long": call("a" * 2049),
    "method in wrong case": call("eth_chainid"),
    "params is an object": call("web3_sha3", '{"a":"0x"}'),
    "params is a string": call("web3_sha3", '"0x"'),
    "params missing": call("web3_sha3"),
    "param null": call("web3_sha3", "[null]"),
    "too many params": call("web3_sha3", '["0x","0x"]'),
    "too many params, none wanted": call("eth_chainId", "[1]"),
    "data without prefix": call("web3_sha3", '["68656c"]'),
    "data of odd length": call("web3_sha3", '["0x123"]'),
    "data not hex": call("web3_sha3", '["0xzz"]'),
    "data is a number": call("web3_sha3", "[5]"),
    "data is an object": call("web3_sha3", "[{}]"),
    "data of many digits": call("web3_sha3", "[" + "9" * 5000 + "]"),
    "transaction empty": call("eth_sendRawTransaction", '["0x"]'),
    "transaction garbage": call("eth_sendRawTransaction", '["0x1234"]'),
    "transaction missing": call("eth_sendRawTransaction", "[]"),
    "enode garbage": call("admin_addPeer", '["hello"]'),
    "enode not on the curve": call("admin_addPeer", f'["{ENODE}"]'),
    "enode is a number": call("admin_addPeer", "[7]"),
    "enode missing": call("admin_removePeer"),
    "version missing": '{"id":1,"method":"eth_chainId"}',
    "version wrong": '{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}',
    "version a number": '{"jsonrpc":2.0,"id":1,"method":"eth_chainId"}',
    "id is an object": '{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}',
    "id is an array": '{"jsonrpc":"2.0","id":[1],"method":"eth_chainId"}',
    "method missing": '{"jsonrpc":"2.0","id":1}',
    "method empty": call(""),
    "method is a number": '{"jsonrpc":"2.0","id":1,"method":5}',
    "object empty": "{}",
    "null": "null",
    "true": "true",
    "number": "1 ",
    "string": '"eth_chainId"',
    "batch empty": "[]",
    "subscription": call("eth_subscribe", '["newHeads"]'),
    "response instead of a request": '{"jsonrpc":"2.0","id":1,"result":5}',
    "response with method": '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","result":5}',
    "notification": '{"jsonrpc":"2.0","method":"eth_chainId"}',
    "notification unknown": '{"jsonrpc":"2.0","method":"eth_nothing"}',
    "notification with wrong version": '{"jsonrpc":"1.0","method":"eth_chainId"}',
}

BATCHES = {
    "batch of two": f"[{call('eth_chainId')},{call('eth_nothing', id_='2')}]",
    "batch with the same id twice": f"[{call('eth_chainId')},{call('net_version')}]",
    "batch with a notification": f'[{call("eth_chainId")},{{"jsonrpc":"2.0","method":"net_version"}}]',
    "batch of notifications": '[{"jsonrpc":"2.0","method":"net_version"},{"jsonrpc":"2.0","method":"x"}]',
    "batch of no requests": '[1,"a",null,true,[],{}]',
    "batch in a batch": f"[[{call('eth_chainId')}]]",
    "batch of one response": '[{"jsonrpc":"2.0","id":1,"result":5}]',
    "batch too large": "[0," + call("eth_chainId", id_="77") + ",0" * 1000 + "]",
    "batch too large without a call": "[0" + ",0" * 1000 + "]",
}

BROKEN = {
    "empty": "",
    "spaces only": "  \n",
    "brace open": "{",
    "not json": "hello",
    "brace closing": "}",
    "not a number": '{"jsonrpc":"2.0","id":NaN,"method":"eth_chainId"}',
    "control character in a string": '{"jsonrpc":"2.0","id":"\u0001","method":"eth_chainId"}',
    "byte order mark": "\ufeff" + call("eth_chainId"),
    "trailing comma": '{"jsonrpc":"2.0","id":1,}',
    "nested too deep": "[" * 20000,
    "single quotes": "{'jsonrpc':'2.0'}",
}

HTTP_ONLY = {"two values": call("eth_chainId") + call("net_version")}


def by_http(port: int, method: str, body: bytes, headers: dict[str, str]) -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, "/", skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if "Content-Length" not in headers:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return {"status": answer.status, "content_type": answer.headers.get("content-type", ""), "answer": text}


def by_ipc(path: str, body: bytes) -> dict[str, object]:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(0.4)
    client.connect(path)
    client.sendall(body)
    answer, closed = b"", False
    try:
        while chunk := client.recv(65536):
            answer += chunk
        closed = True
    except TimeoutError:
        pass
    except ConnectionResetError:
        closed = True
    client.close()
    return {"answer": answer.decode(), "closed": closed}


JSON_HEADERS = {"Host": "127.0.0.1", "Content-Type": "application/json"}
LOCAL = {"Host": "localhost"}


def hosted(host: str) -> dict[str, str]:
    return {**JSON_HEADERS, "Host": host}


def typed(content_type: str) -> dict[str, str]:
    return {**LOCAL, "Content-Type": content_type}


CHAIN_ID = call("eth_chainId")
ORIGIN = {**JSON_HEADERS, "Origin": "http://evil.example"}
HEADER_CASES: dict[str, tuple[str, str, dict[str, str]]] = {
    "get without a body": ("GET", "", LOCAL),
    "head": ("HEAD", "", LOCAL),
    "put": ("PUT", CHAIN_ID, JSON_HEADERS),
    "delete": ("DELETE", "", JSON_HEADERS),
    "options": ("OPTIONS", "", {**ORIGIN, "Access-Control-Request-Method": "POST"}),
    "content type missing": ("POST", CHAIN_ID, LOCAL),
    "content type text": ("POST", CHAIN_ID, typed("text/plain")),
    "content type with charset": ("POST", CHAIN_ID, typed("application/json; charset=utf-8")),
    "content type json-rpc": ("POST", CHAIN_ID, typed("application/json-rpc")),
    "content type in capitals": ("POST", CHAIN_ID, typed("Application/JSON")),
    "host of another": ("POST", CHAIN_ID, hosted("evil.example")),
    "host of another with port": ("POST", CHAIN_ID, hosted("evil.example:8545")),
    "host localhost with port": ("POST", CHAIN_ID, hosted("LOCALHOST:8545")),
    "host ip": ("POST", CHAIN_ID, hosted("203.0.113.5:1")),
    "host ipv6": ("POST", CHAIN_ID, hosted("[::1]:8545")),
    "host ipv6 without port": ("POST", CHAIN_ID, hosted("[::1]")),
    "host empty": ("POST", CHAIN_ID, hosted("")),
    "body too large": ("POST", "", {**JSON_HEADERS, "Content-Length": str(5 * 1024 * 1024 + 1)}),
    "origin of another": ("POST", CHAIN_ID, ORIGIN),
}


def main(port: int, ipc: str, out: str) -> None:
    version = json.loads(
        str(by_http(port, "POST", call("web3_clientVersion").encode(), JSON_HEADERS)["answer"])
    )["result"]
    record: dict[str, object] = {"source": version, "http": [], "ipc": [], "headers": []}
    groups = {"result": RESULTS, "error": ERRORS, "batch": BATCHES, "broken": BROKEN, "http only": HTTP_ONLY}
    for kind, cases in groups.items():
        for name, body in cases.items():
            got = by_http(port, "POST", body.encode(), JSON_HEADERS)
            record["http"].append({"name": name, "kind": kind, "request": body, **got})  # type: ignore[attr-defined]
            if cases is not HTTP_ONLY and not name.startswith("batch too large"):  # geth has no limit there
                record["ipc"].append(
                    {"name": name, "kind": kind, "request": body, **by_ipc(ipc, body.encode())}
                )  # type: ignore[attr-defined]
    for name, (method, body, headers) in HEADER_CASES.items():
        got = by_http(port, method, body.encode(), headers)
        record["headers"].append({"name": name, "method": method, "request": body, "headers": headers, **got})  # type: ignore[attr-defined]
    datadir = json.loads(by_http(port, "POST", call("admin_datadir").encode(), JSON_HEADERS)["answer"])[
        "result"
    ]
    Path(out).write_text(json.dumps(record, indent=1).replace(datadir, "/geth") + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
