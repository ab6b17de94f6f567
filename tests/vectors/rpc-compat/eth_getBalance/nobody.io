// nobody
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": ["0x7777777777777777777777777777777777777777", "latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x0"}
