"""What an event is: its fields, its custom data, and the encoder that turns a send's arguments into bytes."""
