// leading zero
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x012", true]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: hex number with leading zero digits"}}
