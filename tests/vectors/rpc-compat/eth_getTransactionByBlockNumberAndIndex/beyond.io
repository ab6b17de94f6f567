// beyond
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionByBlockNumberAndIndex", "params": ["0x12", "0xff"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
