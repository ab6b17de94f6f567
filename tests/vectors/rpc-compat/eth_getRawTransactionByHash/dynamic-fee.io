// dynamic fee
>> {"jsonrpc": "2.0", "id": 1, "method": "eth_getRawTransactionByHash", "params": ["0xc99455f061dc9c19012d8e5654703bb80cd258dec76ca8ede5851a46e3313bb3"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x02f86e870c72dd9d5e883e0601841770c674830186a0949dcd17433742f4c0ca53122ab541d0ba67fc27d38001c001a04db26b2e53b94ade3708577692560b064eb601e928745b342eeea962e0839a50a0677acaf47e31da709bbf4dcf5e19dac53d985eaf8410b466ee4fe2f92c92c8bc"}
