// legacy
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getRawTransactionByHash", "params": ["0x75766769ed80296f53108395cd697476638acece8884c006fb4bdb43d70e9074"]}
<< {"jsonrpc":"2.0","id":1,"result":"0xf8720d840c08dade8301117094eda8645ba6948855e3b3cd596bbb07596d59c6038087696e766f6b65648718e5bb3abd109fa04cebebdd99c3ce41dcfe34c2a3b4cd718b35fccf8c5d3cfa0b3a7e50bb96eb1ea00924ff4d0baa35d9f6d55c9676fc667458260dc873a0aba653dc952f49e2296d"}
