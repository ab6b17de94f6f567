// one block
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [{"fromBlock": "0x12", "toBlock": "0x12"}]}
<< {"jsonrpc":"2.0","id":1,"result":[]}
