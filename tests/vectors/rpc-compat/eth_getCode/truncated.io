// truncated
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getCode", "params": ["0x0c2c51a0990aee1d73c1228de1586883415575", "latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: hex string has length 38, want 40 for common.Address"}}
