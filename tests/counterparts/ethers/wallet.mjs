// A wallet on ethers that does what JSON lines say: {"id": 1, "do": "send", ...} -> {"id": 1, "ok": ...} or
// {"id": 1, "error": ...}. Its argument is the URL of the node; ws:// makes subscriptions possible.
import { createInterface } from "node:readline";
import { JsonRpcProvider, Wallet, WebSocketProvider, Transaction } from "ethers";

const url = process.argv[2];
const Provider = url.startsWith("ws") ? WebSocketProvider : JsonRpcProvider;
const provider = new Provider(url, undefined, { cacheTimeout: -1 }); // no answer of its own from a moment ago
const heard = { pending: [], block: [], logs: [] };

const plain = (value) => JSON.parse(JSON.stringify(value, (_, each) => (typeof each === "bigint" ? each.toString() : each)));

const commands = {
  async network() {
    const fees = await provider.getFeeData();
    const { chainId } = await provider.getNetwork();
    return { chainId, block: await provider.getBlockNumber(), gasPrice: fees.gasPrice };
  },
  async send({ key, transaction }) {
    const wallet = new Wallet(key, provider);
    const ready = await wallet.populateTransaction(transaction);
    const raw = await wallet.signTransaction(ready);
    const sent = await provider.broadcastTransaction(raw);
    return { hash: sent.hash, nonce: sent.nonce, same: sent.hash === Transaction.from(raw).hash, raw };
  },
  async nonce({ address, block }) {
    return await provider.getTransactionCount(address, block);
  },
  async transaction({ hash }) {
    const found = await provider.getTransaction(hash);
    return found && { hash: found.hash, from: found.from, to: found.to, block: found.blockNumber, type: found.type };
  },
  async receipt({ hash }) {
    const found = await provider.getTransactionReceipt(hash);
    return found && { hash: found.hash, status: found.status, block: found.blockNumber, contract: found.contractAddress, logs: found.logs.length };
  },
  async wait({ hash }) {
    const found = await provider.waitForTransaction(hash, 1, 60000);
    return { status: found.status, block: found.blockNumber };
  },
  async call(transaction) {
    return await provider.call({ to: transaction.to });
  },
  async logs({ address }) {
    const found = await provider.getLogs({ address, fromBlock: 0, toBlock: "latest" });
    return found.map(({ topics, data, transactionHash }) => ({ topics, data, hash: transactionHash }));
  },
  async block({ number }) {
    const found = await provider.getBlock(number);
    return { hash: found.hash, transactions: [...found.transactions] };
  },
  async raw({ method, params }) {
    return await provider.send(method, params);
  },
  async listen({ address }) {
    await provider.on("pending", (hash) => heard.pending.push(hash));
    await provider.on("block", (number) => heard.block.push(number));
    await provider.on({ address }, (log) => heard.logs.push(log.transactionHash));
    return true;
  },
  async heard() {
    return heard;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...rest } = JSON.parse(line);
  commands[name](rest).then(
    (ok) => console.log(JSON.stringify({ id, ok: plain(ok ?? null) })),
    (error) => console.log(JSON.stringify({ id, error: String(error?.info?.error?.message ?? error?.message ?? error) })),
  );
}
process.exit(0);
