// A discv5 node on go-ethereum's p2p/discover that a test or a benchmark drives: one JSON object a line on
// stdin, one answer a line on stdout with the same "id" and either "ok" or "error". The commands are those of
// ../README.md.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/discover"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/enr"
)

// command holds the arguments of all commands.
type command struct {
	ID        json.RawMessage `json:"id"`
	Do        string          `json:"do"`
	Key       string          `json:"key"`
	Port      int             `json:"port"`
	Bootnodes []string        `json:"bootnodes"`
	Fill      int             `json:"fill"`
	ENR       string          `json:"enr"`
	Distances []uint          `json:"distances"`
	Protocol  string          `json:"protocol"`
	Payload   string          `json:"payload"`
	Target    string          `json:"target"`
	Name      string          `json:"name"`
	Value     string          `json:"value"`
	Op        string          `json:"op"`
	Count     int64           `json:"count"`
	Window    int             `json:"window"`
	Size      int             `json:"size"`
}

type outcome struct {
	Done    int64            `json:"done"`
	Records int64            `json:"records"`
	Errors  map[string]int64 `json:"errors"`
	Seconds float64          `json:"seconds"`
}

var node *discover.UDPv5

func texts(nodes []*enode.Node) []string {
	found := make([]string, len(nodes))
	for i, each := range nodes {
		found[i] = each.String()
	}
	return found
}

func start(c *command) (any, error) {
	key, err := crypto.HexToECDSA(c.Key)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.Port})
	if err != nil {
		return nil, err
	}
	db, err := enode.OpenDB("")
	if err != nil {
		return nil, err
	}
	local := enode.NewLocalNode(db, key)
	local.SetStaticIP(net.IPv4(127, 0, 0, 1))
	local.SetFallbackUDP(c.Port)
	config := discover.Config{PrivateKey: key, V5RespTimeout: 2 * time.Second}
	if c.Fill > 0 {
		// Nobody answers for the records that fill the table: they count as live, and are left alone.
		config.NoFindnodeLivenessCheck = true
		config.PingInterval = time.Hour
	}
	for _, text := range c.Bootnodes {
		bootnode, err := enode.Parse(enode.ValidSchemes, text)
		if err != nil {
			return nil, err
		}
		config.Bootnodes = append(config.Bootnodes, bootnode)
	}
	if node, err = discover.ListenV5(conn, local, config); err != nil {
		return nil, err
	}
	echo := func(_ *enode.Node, _ *net.UDPAddr, body []byte) []byte { return body }
	node.RegisterTalkHandler("echo", echo)
	return node.Self().String(), fill(c.Fill)
}

func fill(count int) error {
	for i := 0; i < count; i++ {
		key, err := crypto.GenerateKey()
		if err != nil {
			return err
		}
		var record enr.Record
		record.Set(enr.IPv4{127, 0, 0, 1})
		record.Set(enr.UDP(20000 + i))
		if err := enode.SignV4(&record, key); err != nil {
			return err
		}
		filler, err := enode.New(enode.ValidSchemes, &record)
		if err != nil {
			return err
		}
		node.AddKnownNode(filler)
	}
	return nil
}

func (c *command) once(remote *enode.Node, body []byte) (int, error) {
	switch c.Op {
	case "ping":
		_, err := node.Ping(remote)
		return 0, err
	case "findnode":
		found, err := node.Findnode(remote, c.Distances)
		return len(found), err
	default:
		_, err := node.TalkRequest(remote, "echo", body)
		return 0, err
	}
}

func load(c *command, remote *enode.Node) (any, error) {
	size := c.Size
	if size == 0 {
		size = 100
	}
	body := bytes.Repeat([]byte{7}, size)
	if _, err := c.once(remote, body); err != nil { // the handshake is not counted
		return nil, err
	}
	var begun, done, records atomic.Int64
	var workers sync.WaitGroup
	var lock sync.Mutex
	failures := map[string]int64{}
	began := time.Now()
	for range c.Window {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for begun.Add(1) <= c.Count {
				found, err := c.once(remote, body)
				if err != nil {
					lock.Lock()
					failures[err.Error()]++
					lock.Unlock()
					continue
				}
				done.Add(1)
				records.Add(int64(found))
			}
		}()
	}
	workers.Wait()
	return outcome{done.Load(), records.Load(), failures, time.Since(began).Seconds()}, nil
}

func ask(c *command) (any, error) {
	switch c.Do {
	case "start":
		return start(c)
	case "table":
		return texts(node.AllNodes()), nil
	case "lookup":
		target, err := enode.ParseID(c.Target)
		if err != nil {
			return nil, err
		}
		return texts(node.Lookup(target)), nil
	case "set":
		value, err := hex.DecodeString(c.Value)
		if err != nil {
			return nil, err
		}
		node.LocalNode().Set(enr.WithEntry(c.Name, value))
		return node.LocalNode().Node().String(), nil
	}
	remote, err := enode.Parse(enode.ValidSchemes, c.ENR)
	if err != nil {
		return nil, err
	}
	switch c.Do {
	case "ping":
		pong, err := node.Ping(remote)
		if err != nil {
			return nil, err
		}
		return pong.ENRSeq, nil
	case "findnode":
		found, err := node.Findnode(remote, c.Distances)
		return texts(found), err
	case "talkreq":
		payload, err := hex.DecodeString(c.Payload)
		if err != nil {
			return nil, err
		}
		answer, err := node.TalkRequest(remote, c.Protocol, payload)
		return hex.EncodeToString(answer), err
	case "load":
		return load(c, remote)
	}
	return nil, fmt.Errorf("no command %q", c.Do)
}

func main() {
	var lock sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(c *command) {
		answer := map[string]any{"id": c.ID}
		if ok, err := ask(c); err != nil {
			answer["error"] = err.Error()
		} else {
			answer["ok"] = ok
		}
		lock.Lock()
		defer lock.Unlock()
		out.Encode(answer)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		c := new(command)
		if err := json.Unmarshal(lines.Bytes(), c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if c.Do == "start" {
			say(c)
		} else {
			go say(c)
		}
	}
}
