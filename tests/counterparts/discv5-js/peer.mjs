// A discv5 node on @chainsafe/discv5 that a test or a benchmark drives: one JSON object a line on stdin, one
// answer a line on stdout with the same "id" and either "ok" or "error". The commands are those of ../README.md.
import { createInterface } from 'node:readline'
import { privateKeyFromRaw, generateKeyPair } from '@libp2p/crypto/keys'
import { Discv5 } from '@chainsafe/discv5'
import { generateKeypair } from '@chainsafe/discv5/keypair'
import { ENR, SignableENR } from '@chainsafe/enr'
import { multiaddr } from '@multiformats/multiaddr'

const HOST = '127.0.0.1'
const CONFIG = {
  requestTimeout: 2000,
  requestRetries: 1,
  lookupTimeout: 5000,
  enrUpdate: false,
  allowUnverifiedSessions: true
}
let node

function record (privateKey, port) {
  const enr = SignableENR.createFromPrivateKey(privateKey)
  enr.ip = HOST
  enr.udp = port
  return enr
}

async function fill (count) {
  for (let i = 0; i < count; i++) {
    node.addEnr(record(await generateKeyPair('secp256k1'), 20000 + i).toENR())
  }
}

// The first signatures, checks and agreements of a cold program take longer than the time-outs of others.
function warmUp (enr) {
  for (let i = 0; i < 5; i++) {
    generateKeypair('secp256k1').deriveSecret(generateKeypair('secp256k1'))
    ENR.decodeTxt(enr.encodeTxt())
  }
}

const hex = (bytes) => Buffer.from(bytes).toString('hex')
const texts = (enrs) => enrs.map((each) => each.encodeTxt())

async function drain (one, count, window) {
  let begun = 0
  let done = 0
  let records = 0
  const errors = {}
  const worker = async () => {
    while (begun < count) {
      begun++
      try {
        const answer = await one()
        if (Array.isArray(answer)) records += answer.length
        done++
      } catch (error) {
        errors[error.message] = (errors[error.message] ?? 0) + 1
      }
    }
  }
  const start = process.hrtime.bigint()
  await Promise.all(Array.from({ length: window }, worker))
  return { done, records, errors, seconds: Number(process.hrtime.bigint() - start) / 1e9 }
}

const COMMANDS = {
  start: async ({ key, port, bootnodes = [], fill: count = 0 }) => {
    const privateKey = privateKeyFromRaw(Buffer.from(key, 'hex'))
    const bindAddrs = { ip4: multiaddr(`/ip4/${HOST}/udp/${port}`) }
    node = Discv5.create({ enr: record(privateKey, port), privateKey, bindAddrs, config: CONFIG })
    node.on('talkReqReceived', (from, _enr, message) => {
      node.sendTalkResp(from, message.id, message.request).catch(() => {})
    })
    warmUp(node.enr)
    await node.start()
    bootnodes.forEach((each) => node.addEnr(each))
    await fill(count)
    return node.enr.encodeTxt()
  },
  ping: async ({ enr }) => Number((await node.sendPing(ENR.decodeTxt(enr))).enrSeq),
  findnode: async ({ enr, distances }) => texts(await node.sendFindNode(ENR.decodeTxt(enr), distances)),
  talkreq: async ({ enr, protocol, payload }) =>
    hex(await node.sendTalkReq(ENR.decodeTxt(enr), Buffer.from(payload, 'hex'), protocol)),
  lookup: async ({ target }) => texts(await node.findNode(target)),
  table: async () => texts(node.kadValues()),
  set: async ({ name, value }) => {
    node.enr.set(name, Buffer.from(value, 'hex'))
    return node.enr.encodeTxt()
  },
  load: async ({ enr, op, count, window, distances, size = 100 }) => {
    const remote = ENR.decodeTxt(enr)
    const body = Buffer.alloc(size, 7)
    const one = {
      ping: () => node.sendPing(remote),
      findnode: () => node.sendFindNode(remote, distances),
      talkreq: () => node.sendTalkReq(remote, body, 'echo')
    }[op]
    await one() // the handshake is not counted
    return drain(one, count, window)
  }
}

async function answer (line) {
  const command = JSON.parse(line)
  try {
    return { id: command.id, ok: await COMMANDS[command.do](command) }
  } catch (error) {
    return { id: command.id, error: String(error?.message ?? error) }
  }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async (line) => process.stdout.write(JSON.stringify(await answer(line)) + '\n'))
lines.on('close', () => process.exit(0))
