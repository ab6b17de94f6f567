// unknown
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionByHash", "params": ["0x7777777777777777777777777777777777777777777777777777777777777777"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
