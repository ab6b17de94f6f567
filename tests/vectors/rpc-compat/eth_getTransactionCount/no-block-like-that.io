// no block like that
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionCount", "params": ["0x0c2c51a0990aee1d73c1228de158688341557508", "0xfffff"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"header not found"}}
