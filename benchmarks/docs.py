"""docs/performance.md, written from a result: text and tables together, so that neither gets old alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import serving
from benchmarks.report import (
    ACROSS_HEAD,
    BLOB_HEAD,
    DISCOVERY_HEAD,
    HEAD,
    MICRO_HEAD,
    RPC_HEAD,
    SERVING_HEAD,
    TOR_HEAD,
    across_cells,
    blob_cells,
    cells,
    discovery_cells,
    machine_words,
    markdown_table,
    micro_cells,
    rpc_cells,
    tor_cells,
)

SIMULATED = Path(__file__).parent / "simulation" / "results.md"
NOT_MEASURED = "Not measured in this run."

_PAGE = """# Performance

This page is written by `make bench ARGS=--write-docs` from `benchmarks/results/{file}`. Do not edit it.

{machine}.
Relays: {relays}.

## pyrelay next to geth

Lower is better, but for throughput. A ratio is pyrelay's value divided by geth's, from the same run on the
same machine. A target that was missed says so.

{table}

{notes}

### How it is measured

- The relay in the middle is a process of its own, fresh for each scenario. pyrelay and geth take turns, so
  that a slow spell of the machine hits both.
- A source and the sinks are peers in two further processes. Transactions are signed, encoded and compressed
  beforehand: {transfers}. Some thousands go through the relay before anything is counted.
- Every sink compares what it got with what was sent, byte for byte; a single loss is printed above. Sinks
  ask for announced transactions at once, 256 at a time.
- With one sink every transaction is pushed whole. With 25, geth's rule holds in both relays: whole to the
  square root of all peers, announced to the others, who fetch it.
- Latency is from the moment before the source writes a transaction to the moment a sink has read it, over
  all sinks; clocks are the same, since all run on one machine.
- CPU is the relay's own process, user and system time, divided by the number of transactions; at 200/s this
  includes what the relay does when idle.
- geth uses all cores, pyrelay one. The load needs cores, too: with {cores} cores geth's threads compete with
  it at full speed, and pyrelay's one thread does not. "cores" and "load_cores" in the result tell how much.
- geth is synced by the Engine API on a chain of its own and has a pool large enough for the run.
  pyrelay runs with its defaults, but for the number of peers.

Flags:

```
{flags}
```

## Chain data for peers

One connection on eth/69 asks a geth with 6,000 blocks of a transaction each, a pyrelay that has everything
in its cache, and a fresh pyrelay, so that each answer comes from the geth behind and is checked on its way.
Of blocks whose bodies or receipts are asked it was asked the headers before, as one is by who syncs. They
take turns, one question at a time and 16 under way. The client, a process in Python, bounds large answers.

{serving}

## JSON-RPC

A client on loopback over connections that stay; calls that pass through take turns with the same calls to
the geth behind.

{rpc}

## Blob transactions

{blobs}

## Tor beside clearnet

The same daemon, reached at its clearnet port and at its onion service on a private Tor network on this
machine (three authorities, four relays, all on the same cores). Round trips on the public network are longer;
the cost of a connection in memory and CPU is the same.

{tor}

## Discovery

discv5 over UDP loopback, next to @chainsafe/discv5, the Rust crate discv5 and go-ethereum's, in the same run.

{discovery}

How it is measured:

- Each implementation asks itself, in two processes; below it, who asks whom across. The one that asks counts
  what was answered. The session is there before; 16 requests are under way at a time, TALKREQ with 100 bytes.
- FINDNODE asks for three distances whose buckets hold more than the 16 records of an answer, which take two
  or more NODES packets. Ours hands on nodes that have answered it (64 live ones), the others records put into
  their tables. The Rust crate returns to its caller what the first packet held.
- Handshakes: identities of ours, each unknown and greeting once, 16 at a time, from one process, which is
  often the slower end; "CPU a handshake" is what it takes from the one that is greeted.
- Our bound on the work for hosts of the LAN, nine tenths of a core, is lifted: all that asks is loopback.
- Memory of a table entry: its record in the cache included, tables of 10,000 nodes weighed by tracemalloc.
  Of a session: growth of the process over 10,000 sessions with keys alone, and with their ciphers set up;
  "default bounds" is their mean as the options bound them (1,024 sessions, 128 of them with ciphers).

## The parts

Microbenchmarks (`python -m benchmarks.micro`): the fastest of many rounds, for one item.

{micro}

{simulated}
## Running it

```
make bench                              # all of it, below 15 minutes; needs Go once, to build geth
make bench ARGS=--quick                 # one round, smaller
make bench ARGS="--only full-1 peers"   # some scenarios
make bench ARGS="--only serving rpc blobs"
make bench ARGS="--only discovery"      # needs Node 20, cargo and Go once; what is missing is left out
make profile                            # a flame graph of the relay at full speed
```
"""


def page(result: Mapping[str, Any], file: str) -> str:
    """The whole page."""
    relays = result["relays"]
    return _PAGE.format(
        file=file,
        machine=machine_words(result),
        relays=", ".join(f"{name} {relay['version']}" for name, relay in relays.items()) or "none",
        table=markdown_table(HEAD, cells(result["rows"])) if result["rows"] else NOT_MEASURED,
        notes="\n".join(f"- {note}" for note in result["notes"]),
        transfers=result["transfers"],
        cores=result["machine"]["cores"],
        flags="\n".join(f"{name} {' '.join(relay['flags'])}" for name, relay in relays.items()),
        serving=_part(result, "serving", (SERVING_HEAD, serving.cells)),
        rpc=_part(result, "rpc", (RPC_HEAD, rpc_cells)),
        blobs=_part(result, "blobs", (BLOB_HEAD, blob_cells)),
        tor=_part(result, "tor", (TOR_HEAD, tor_cells)),
        discovery=_part(result, "discovery", (DISCOVERY_HEAD, discovery_cells), (ACROSS_HEAD, across_cells)),
        micro=_part(result, "micro", (MICRO_HEAD, micro_cells)),
        simulated=SIMULATED.read_text(),
    )


def _part(result: Mapping[str, Any], name: str, *tables: tuple[Any, Any]) -> str:
    """The tables of a part; with when and where it was measured, if that was another run."""
    found = result.get(name)
    if not found:
        return NOT_MEASURED
    parts = [markdown_table(head, shown(found)) for head, shown in tables]
    apart = result.get("apart", {}).get(name)
    return "\n\n".join([f"{apart}."] * bool(apart) + parts)
