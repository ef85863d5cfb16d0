"""What makes a wait speak: who is where, who is dead, who waits for whom; on one node and between nodes."""
