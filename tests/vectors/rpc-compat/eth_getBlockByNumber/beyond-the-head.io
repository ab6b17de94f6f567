// beyond the head
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0xfffff", true]}
<< {"jsonrpc":"2.0","id":1,"result":null}
