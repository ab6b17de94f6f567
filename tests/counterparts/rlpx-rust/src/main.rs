//! An Ethereum node on ethrex (its crates ethrex-p2p, ethrex-blockchain and ethrex-storage), driven by JSON lines;
//! ../README.md lists what it understands. Handshake, messages, pool, sync and execution are ethrex's own.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ethrex_blockchain::Blockchain;
use ethrex_common::{H256, types::Transaction};
use ethrex_p2p::{
    DiscoveryConfig,
    network::{P2PContext, start_network},
    peer_handler::PeerHandler,
    peer_table::{PeerTableServer, PeerTableServerProtocol as _},
    rlpx::initiator::{RLPxInitiator, RlpxInitiatorProtocol as _},
    sync::SyncMode,
    sync_manager::SyncManager,
    types::{NetworkConfig, Node},
    utils::public_key_from_signing_key,
};
use ethrex_storage::{EngineType, Store};
use secp256k1::SecretKey;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

type Failure = Box<dyn std::error::Error>;

const HOST: &str = "127.0.0.1";
const PEERS: usize = 20;
const BROADCAST_MS: u64 = 50;
const LOOKUP_MS: f64 = 1000.0;

struct Running {
    store: Store,
    blockchain: Arc<Blockchain>,
    context: P2PContext,
    handler: PeerHandler,
    syncer: SyncManager,
}

fn word<'a>(words: &'a Value, name: &str) -> Result<&'a str, Failure> {
    words[name].as_str().ok_or_else(|| format!("{name} is missing").into())
}

fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

async fn start(words: &Value) -> Result<(Running, Value), Failure> {
    let signer = SecretKey::from_slice(&hex::decode(word(words, "key")?)?)?;
    let genesis = word(words, "genesis")?;
    let directory = PathBuf::from(genesis).parent().ok_or("no folder")?.to_path_buf();
    let store = Store::new_from_genesis(&directory, EngineType::InMemory, genesis).await?;
    let blockchain = Arc::new(Blockchain::default_with_store(store.clone()));
    // Until then it ignores what peers send of transactions.
    blockchain.set_synced();
    let ip: IpAddr = HOST.parse()?;
    let port = free_port()?;
    let node = Node::new(ip, port, port, public_key_from_signing_key(&signer));
    let table = PeerTableServer::spawn(node.node_id(), PEERS, store.clone());
    let context = P2PContext::new(
        node.clone(),
        NetworkConfig { bind_addr: ip, tcp_port: port, udp_port: port },
        TaskTracker::new(),
        signer,
        table.clone(),
        store.clone(),
        blockchain.clone(),
        "ethrex/v24.0.0/counterpart".to_string(),
        None,
        BROADCAST_MS,
        LOOKUP_MS,
    )?;
    let alone = DiscoveryConfig { discv4_enabled: false, discv5_enabled: false, initial_lookup_interval: LOOKUP_MS };
    start_network(context.clone(), vec![], alone).await?;
    let initiator = RLPxInitiator::spawn(context.clone());
    let handler = PeerHandler::new(table, initiator);
    let syncer = SyncManager::new(
        handler.clone(),
        &SyncMode::Full,
        CancellationToken::new(),
        blockchain.clone(),
        store.clone(),
        directory,
    )
    .await;
    let url = json!(node.enode_url());
    Ok((Running { store, blockchain, context, handler, syncer }, url))
}

impl Running {
    async fn run(&mut self, name: &str, words: &Value) -> Result<Value, Failure> {
        match name {
            "dial" => {
                let node = Node::from_enode_url(word(words, "enode")?)?;
                self.handler.initiator.initiate(node)?;
                Ok(json!(true))
            }
            "peers" => self.peers().await,
            "send" => {
                for each in words["transactions"].as_array().ok_or("transactions are missing")? {
                    let raw = hex::decode(each.as_str().ok_or("no text")?)?;
                    self.blockchain.add_transaction_to_pool(Transaction::decode_canonical(&raw)?).await?;
                }
                Ok(json!(true))
            }
            "transactions" => {
                let held = self.blockchain.mempool.content()?;
                Ok(held.iter().map(|each| json!(hex::encode(each.encode_canonical_to_vec()))).collect())
            }
            "sync" => {
                self.syncer.sync_to_head(H256::from_slice(&hex::decode(word(words, "hash")?)?));
                Ok(json!(true))
            }
            "head" => {
                let number = self.store.get_latest_block_number().await?;
                let hash = self.store.get_canonical_block_hash(number).await?.ok_or("no head")?;
                Ok(json!({"number": number, "hash": hex::encode(hash)}))
            }
            _ => Err(format!("unknown command {name}").into()),
        }
    }

    async fn peers(&self) -> Result<Value, Failure> {
        let known = self.context.table.get_peers_data().await?;
        let told = self.handler.read_peer_diagnostics().await;
        let mut found = vec![];
        for each in known.iter().filter(|each| each.connection.is_some()) {
            let id = each.node.node_id();
            let client = told.iter().find(|one| one.peer_id == id).map(|one| one.client_version.clone());
            found.push(json!({
                "id": hex::encode(each.node.public_key),
                "client": client,
                "status": true,
                "caps": each.supported_capabilities.iter().map(|one| format!("{}/{}", one.protocol(), one.version)).collect::<Vec<_>>(),
            }));
        }
        Ok(found.into())
    }
}

async fn answer(running: &mut Option<Running>, name: &str, words: &Value) -> Result<Value, Failure> {
    match running {
        Some(node) => node.run(name, words).await,
        None if name == "start" => {
            let (node, url) = start(words).await?;
            *running = Some(node);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(url)
        }
        None => Err("not started".into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut running = None;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Value = serde_json::from_str(&line)?;
        let told = match answer(&mut running, words["do"].as_str().unwrap_or(""), &words).await {
            Ok(value) => json!({"id": words["id"], "ok": value}),
            Err(error) => json!({"id": words["id"], "error": error.to_string()}),
        };
        println!("{told}");
    }
    Ok(())
}
