// nobody
>> {"jsonrpc": "2.0", "id": 1, "method": "txpool_contentFrom", "params": ["0x7777777777777777777777777777777777777777"]}
<< {"jsonrpc":"2.0","id":1,"result":{"pending":{},"queued":{}}}
