// nobody
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_createAccessList", "params": [{"from": "0x0c2c51a0990aee1d73c1228de158688341557508", "to": "0x7777777777777777777777777777777777777777"}, "latest"]}
<< {"jsonrpc":"2.0","id":1,"result":{"accessList":[],"gasUsed":"0x3a98"}}
