// An RLPx and eth peer on @ethereumjs/devp2p, driven by JSON lines; ../README.md lists what it understands.
// Handshake, frames, Hello, compression and eth/68 are the library's own; eth/69 is its class with the newer Status.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { RLPx, ETH } from '@ethereumjs/devp2p'
import { Hardfork, createCommonFromGethGenesis } from '@ethereumjs/common'
import { RLP } from '@ethereumjs/rlp'
import { bigIntToUnpaddedBytes, bytesToBigInt, bytesToHex, bytesToInt, hexToBytes, intToUnpaddedBytes } from '@ethereumjs/util'
import { createRequire } from 'node:module'

const snappy = createRequire(import.meta.url)('snappyjs')
const CODES = { status: 0, transactions: 2, getHeaders: 3, headers: 4 }
const ANSWERS = new Map([[3, 4], [5, 6], [9, 10], [15, 16]])
const ASK_SECONDS = 10

const unhex = (text) => hexToBytes(text.startsWith('0x') ? text : `0x${text}`)
const hex = (bytes) => bytesToHex(bytes).slice(2)
const hexDeep = (value) => value instanceof Uint8Array ? hex(value) : value.map(hexDeep)

class Eth69 extends ETH {
  _validateRange () {
    const [, , , , earliest, latest] = this._peerStatus
    if (bytesToBigInt(earliest) > bytesToBigInt(latest)) throw new Error('block range ends before it begins')
  }

  sendStatus ({ latest, bestHash, genesisHash }) {
    const next = this._nextForkBlock === 0n ? new Uint8Array() : bigIntToUnpaddedBytes(this._nextForkBlock)
    const fork = [unhex(this._forkHash), next]
    const network = bigIntToUnpaddedBytes(this._peer.common.chainId())
    this._status = [intToUnpaddedBytes(69), network, genesisHash, fork, new Uint8Array(), latest, bestHash]
    this._send(CODES.status, snappy.compress(RLP.encode(this._status)))
    this._handleStatus()
  }

  _getStatusString () { return 'eth/69' }

  _handleStatus () {
    if (this._status === null || this._peerStatus === null) return
    clearTimeout(this._statusTimeoutId)
    for (const [place, what] of [[0, 'version'], [1, 'network'], [2, 'genesis']]) {
      if (hex(this._status[place]) !== hex(this._peerStatus[place])) throw new Error(`another ${what}`)
    }
    this._validateForkId(this._peerStatus[3])
    this._validateRange()
    this.events.emit('status', {})
  }
}

const EXTRA = { 68: ETH.eth68, 69: { name: 'eth', version: 69, length: 18, constructor: Eth69 } }

class Node {
  constructor () {
    this.peers = new Map()
    this.heard = []
    this.asked = []
    this.served = new Map()
    this.waiting = new Map()
    this.lastId = 0
  }

  start ({ key, genesis, genesisHash, versions, latest, latestHash }) {
    const common = createCommonFromGethGenesis(JSON.parse(readFileSync(genesis, 'utf8')), {
      chain: 'own', genesisHash: unhex(genesisHash), hardfork: Hardfork.Prague
    })
    this.status = {
      td: new Uint8Array(), latest: intToUnpaddedBytes(latest),
      bestHash: unhex(latestHash), genesisHash: unhex(genesisHash)
    }
    this.rlpx = new RLPx(unhex(key), {
      maxPeers: 10, capabilities: versions.map((each) => EXTRA[each]), common, timeout: 10000
    })
    this.rlpx.events.on('error', (error) => process.stderr.write(`${error}\n`))
    this.rlpx.events.on('peer:error', (peer, error) => process.stderr.write(`peer: ${error.stack}\n`))
    this.rlpx.events.on('peer:added', (peer) => this.added(peer))
    this.rlpx.events.on('peer:removed', (peer, reason, ours) => this.removed(peer, reason, ours))
    return new Promise((resolve) => {
      this.rlpx.events.on('listening', () => {
        resolve(`enode://${hex(this.rlpx.id)}@127.0.0.1:${this.rlpx._server.address().port}`)
      })
      this.rlpx.listen(0, '127.0.0.1')
    })
  }

  added (peer) {
    const eth = peer.getProtocols()[0]
    const hello = peer.getHelloMessage()
    const entry = {
      eth, version: eth.getVersion(), client: hello.clientId, status: null, end: null,
      caps: hello.capabilities.map((each) => `${each.name}/${each.version}`)
    }
    this.peers.set(hex(peer.getId()), entry)
    eth.events.on('status', () => { entry.status = hexDeep(eth._peerStatus) })
    eth.events.on('message', (code, payload) => this.message(eth, code, payload))
    eth.sendStatus(this.status)
  }

  removed (peer, reason, ours) {
    const entry = this.peers.get(hex(peer.getId() ?? new Uint8Array()))
    if (entry) entry.end = { reason, ours }
  }

  message (eth, code, payload) {
    if (code === CODES.transactions) {
      this.heard.push(...payload.map((each) => hex(each instanceof Uint8Array ? each : RLP.encode(each))))
    } else if (ANSWERS.has(code)) {
      this.asked.push({ code, payload: hexDeep(payload) })
      const [id, query] = payload
      eth.sendMessage(ANSWERS.get(code), [id, code === CODES.getHeaders ? this.headers(query) : []])
    } else if ([...ANSWERS.values()].includes(code)) {
      this.waiting.get(hex(payload[0]))?.(payload)
    }
  }

  headers ([origin, amount, skip, reverse]) {
    const step = (bytesToInt(skip) + 1) * (reverse.length ? -1 : 1)
    let number = origin.length === 32 ? this.served.get(hex(origin)) : bytesToInt(origin)
    const found = []
    while (found.length < bytesToInt(amount) && this.served.has(number)) {
      found.push(this.served.get(number))
      number += step
    }
    return found
  }

  async dial ({ enode }) {
    const [, id, address, port] = /^enode:\/\/([0-9a-f]{128})@([^:]+):(\d+)/.exec(enode)
    await this.rlpx.connect({ id: unhex(id), address, tcpPort: Number(port), udpPort: Number(port) })
    return true
  }

  hold ({ headers }) {
    for (const { number, hash, rlp } of headers) {
      this.served.set(number, RLP.decode(unhex(rlp)))
      this.served.set(hash, number)
    }
    return headers.length
  }

  joined () {
    return [...this.peers].map(([id, { version, client, caps, status, end }]) => ({ id, version, client, caps, status, end }))
  }

  entry (id) {
    const found = this.peers.get(id)
    if (!found?.status || found.end) throw new Error('no such peer')
    return found
  }

  send ({ peer, transactions }) {
    const list = transactions.map((each) => unhex(each)).map((each) => each[0] >= 0xc0 ? RLP.decode(each) : each)
    this.entry(peer).eth.sendMessage(CODES.transactions, list)
    return list.length
  }

  ask ({ peer, code, query }) {
    const id = intToUnpaddedBytes(++this.lastId)
    const words = RLP.decode(unhex(query))
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no answer')), 1000 * ASK_SECONDS)
      this.waiting.set(hex(id), (payload) => {
        clearTimeout(timer)
        this.waiting.delete(hex(id))
        resolve(payload[1].map((each) => hex(RLP.encode(each))))
      })
      this.entry(peer).eth.sendMessage(code, [id, words])
    })
  }
}

const node = new Node()
const commands = {
  start: (words) => node.start(words),
  dial: (words) => node.dial(words),
  peers: () => node.joined(),
  hold: (words) => node.hold(words),
  send: (words) => node.send(words),
  ask: (words) => node.ask(words),
  transactions: () => node.heard,
  requests: () => node.asked
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const { id, do: name, ...words } = JSON.parse(line)
  let answer
  try {
    answer = { id, ok: await commands[name](words) }
  } catch (error) {
    answer = { id, error: String(error) }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
})
lines.on('close', () => process.exit(0))
