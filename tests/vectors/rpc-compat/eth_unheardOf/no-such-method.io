// no such method
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_unheardOf", "params": []}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"the method eth_unheardOf does not exist/is not available"}}
