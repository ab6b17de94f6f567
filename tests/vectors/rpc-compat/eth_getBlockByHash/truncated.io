// truncated
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByHash", "params": ["0x77777777777777777777777777777777777777777777777777777777777777", true]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: hex string has length 62, want 64 for common.Hash"}}
