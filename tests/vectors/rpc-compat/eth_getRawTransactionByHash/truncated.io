// truncated
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getRawTransactionByHash", "params": ["0x777777777777777777777777777777777777777777777777777777777777777"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: json: cannot unmarshal hex string of odd length into Go value of type common.Hash"}}
