// too poor
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_estimateGas", "params": [{"from": "0x7777777777777777777777777777777777777777", "to": "0x0c2c51a0990aee1d73c1228de158688341557508", "value": "0x1"}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"failed with 50000000 gas: insufficient funds for gas * price + value: address 0x7777777777777777777777777777777777777777 have 0 want 1"}}
