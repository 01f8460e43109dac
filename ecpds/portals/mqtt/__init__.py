"""The MQTT broker: data users subscribe, only the node publishes."""
