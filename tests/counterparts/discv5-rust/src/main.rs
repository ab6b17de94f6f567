//! A discv5 node on the crate discv5 that a test or a benchmark drives: one JSON object a line on stdin, one
//! answer a line on stdout with the same "id" and either "ok" or "error". The commands are those of ../README.md.
use discv5::{ConfigBuilder, Discv5, Event, IpMode, ListenConfig, NodeContact};
use enr::{CombinedKey, Enr, NodeId};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};

type Record = Enr<CombinedKey>;
type Answer = Result<Value, String>;

fn said<E: std::fmt::Debug>(error: E) -> String {
    format!("{error:?}")
}

fn text(command: &Value, name: &str) -> Result<String, String> {
    command[name].as_str().map(str::to_string).ok_or_else(|| format!("{name} is missing"))
}

fn number(command: &Value, name: &str) -> Result<u64, String> {
    command[name].as_u64().ok_or_else(|| format!("{name} is missing"))
}

fn bytes(command: &Value, name: &str) -> Result<Vec<u8>, String> {
    hex::decode(text(command, name)?).map_err(said)
}

fn distances(command: &Value) -> Vec<u64> {
    let list = command["distances"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(Value::as_u64).collect()
}

fn record(key: &CombinedKey, port: u16) -> Result<Record, String> {
    Enr::builder().ip4(Ipv4Addr::LOCALHOST).udp4(port).build(key).map_err(said)
}

fn texts(records: Vec<Record>) -> Value {
    json!(records.iter().map(Record::to_base64).collect::<Vec<_>>())
}

async fn start(command: &Value) -> Result<Discv5, String> {
    let port = number(command, "port")? as u16;
    let key = CombinedKey::secp256k1_from_bytes(&mut bytes(command, "key")?).map_err(said)?;
    let listen = ListenConfig::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let config = ConfigBuilder::new(listen)
        .request_timeout(Duration::from_secs(2))
        .query_timeout(Duration::from_secs(5))
        .disable_enr_update()
        .build();
    let mut node: Discv5 = Discv5::new(record(&key, port)?, key, config)?;
    node.start().await.map_err(said)?;
    for each in command["bootnodes"].as_array().unwrap_or(&vec![]) {
        node.add_enr(each.as_str().unwrap_or("").parse()?)?;
    }
    for each in 0..command["fill"].as_u64().unwrap_or(0) {
        // Records that find their bucket full are not taken, which is as well.
        let _ = node.add_enr(record(&CombinedKey::generate_secp256k1(), 20000 + each as u16)?);
    }
    Ok(node)
}

async fn echo(node: Arc<Discv5>) {
    let Ok(mut events) = node.event_stream().await else { return };
    while let Some(event) = events.recv().await {
        if let Event::TalkRequest(request) = event {
            let body = request.body().to_vec();
            let _ = request.respond(body);
        }
    }
}

#[derive(Clone)]
struct Request {
    op: String,
    remote: Record,
    contact: NodeContact,
    distances: Vec<u64>,
    body: Vec<u8>,
}

impl Request {
    fn new(command: &Value, op: &str) -> Result<Self, String> {
        let remote: Record = text(command, "enr")?.parse()?;
        let contact = NodeContact::try_from_enr(remote.clone(), IpMode::Ip4).map_err(said)?;
        let body = vec![7; command["size"].as_u64().unwrap_or(100) as usize];
        Ok(Request { op: op.to_string(), remote, contact, distances: distances(command), body })
    }

    async fn send(self, node: &Discv5) -> Result<usize, String> {
        match self.op.as_str() {
            "ping" => node.send_ping(self.remote).await.map(|_| 0).map_err(said),
            "findnode" => {
                let found = node.find_node_designated_peer(self.remote, self.distances).await;
                found.map(|records| records.len()).map_err(said)
            }
            _ => node.talk_req(self.contact, b"echo".to_vec(), self.body).await.map(|_| 0).map_err(said),
        }
    }
}

async fn load(node: Arc<Discv5>, command: &Value) -> Answer {
    let request = Request::new(command, &text(command, "op")?)?;
    let (count, window) = (number(command, "count")? as usize, number(command, "window")?);
    request.clone().send(&node).await?; // the handshake is not counted
    let begun = Arc::new(AtomicUsize::new(0));
    let (done, records) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let errors: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let start = Instant::now();
    let mut workers = vec![];
    for _ in 0..window {
        let (node, request, begun, done, records, errors) =
            (node.clone(), request.clone(), begun.clone(), done.clone(), records.clone(), errors.clone());
        workers.push(tokio::spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                match request.clone().send(&node).await {
                    Ok(found) => {
                        done.fetch_add(1, Ordering::Relaxed);
                        records.fetch_add(found, Ordering::Relaxed);
                    }
                    Err(error) => *errors.lock().unwrap().entry(error).or_default() += 1,
                }
            }
        }));
    }
    for worker in workers {
        worker.await.map_err(said)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let errors = errors.lock().unwrap().clone();
    Ok(json!({
        "done": done.load(Ordering::Relaxed), "records": records.load(Ordering::Relaxed),
        "errors": errors, "seconds": seconds,
    }))
}

async fn answer(node: Arc<Discv5>, command: &Value) -> Answer {
    match text(command, "do")?.as_str() {
        "ping" => {
            let pong = node.send_ping(text(command, "enr")?.parse()?).await.map_err(said)?;
            Ok(json!(pong.enr_seq))
        }
        "findnode" => {
            let remote = text(command, "enr")?.parse()?;
            let found = node.find_node_designated_peer(remote, distances(command)).await;
            found.map(texts).map_err(said)
        }
        "talkreq" => {
            let contact = Request::new(command, "")?.contact;
            let (protocol, payload) = (text(command, "protocol")?.into_bytes(), bytes(command, "payload")?);
            let body = node.talk_req(contact, protocol, payload).await.map_err(said)?;
            Ok(json!(hex::encode(body)))
        }
        "lookup" => {
            let target = NodeId::parse(&bytes(command, "target")?).map_err(said)?;
            node.find_node(target).await.map(texts).map_err(said)
        }
        "table" => Ok(texts(node.table_entries_enr())),
        "set" => {
            let value = bytes(command, "value")?;
            node.enr_insert(&text(command, "name")?, &value.as_slice()).map_err(said)?;
            Ok(json!(node.local_enr().to_base64()))
        }
        "load" => load(node, command).await,
        other => Err(format!("no command {other}")),
    }
}

fn say(id: &Value, answer: Answer) {
    match answer {
        Ok(value) => println!("{}", json!({"id": id, "ok": value})),
        Err(error) => println!("{}", json!({"id": id, "error": error})),
    }
}

#[tokio::main]
async fn main() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut node: Option<Arc<Discv5>> = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let command: Value = serde_json::from_str(&line).expect("a line of JSON");
        if command["do"] == "start" {
            say(&command["id"], start(&command).await.map(|begun| {
                let begun = Arc::new(begun);
                tokio::spawn(echo(begun.clone()));
                let enr = begun.local_enr().to_base64();
                node = Some(begun);
                json!(enr)
            }));
        } else if let Some(node) = node.clone() {
            tokio::spawn(async move { say(&command["id"], answer(node, &command).await) });
        } else {
            say(&command["id"], Err("not started".into()));
        }
    }
    std::process::exit(0);
}
