// fee
// speconly: the values are of the moment
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_maxPriorityFeePerGas", "params": []}
<< {"jsonrpc":"2.0","id":1,"result":"0xf4240"}
