// reverts
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"data": "0x60006000fd"}, "latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted","data":"0x"}}
