"""Tell the line what was decided: sorters, lamps and conveyors, each behind one port and on one thread.

    loop -> Sorter.on_decision -> one OutputWorker per output -> Output (modbus, opcua, mqtt, s7, gpio, log)

`rules` decide what is due when, `failsafe` decides when a line may no longer be trusted to us; both are pure.
`worker` and the adapters do what they say. A dead PLC delays its own worker and nobody else.
"""
