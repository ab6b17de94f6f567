// transfer
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_estimateGas", "params": [{"from": "0x0c2c51a0990aee1d73c1228de158688341557508", "to": "0x7777777777777777777777777777777777777777", "value": "0x1"}]}
<< {"jsonrpc":"2.0","id":1,"result":"0x32a1f"}
