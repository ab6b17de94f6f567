// unknown
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByHash", "params": ["0x7777777777777777777777777777777777777777777777777777777777777777", true]}
<< {"jsonrpc":"2.0","id":1,"result":null}
