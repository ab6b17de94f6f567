// four blocks
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_feeHistory", "params": ["0x4", "latest", [50]]}
<< {"jsonrpc":"2.0","id":1,"result":{"oldestBlock":"0x255","reward":[["0x1"],["0x1"],["0x1"],["0x1"]],"baseFeePerGas":["0x7","0x7","0x7","0x7","0x7"],"gasUsedRatio":[0.0004456,0.00104258,0.00017201,0.001836],"baseFeePerBlobGas":["0x1","0x1","0x1","0x1","0x1"],"blobGasUsedRatio":[0,0,0,0]}}
