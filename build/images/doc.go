// Command images writes the container images of Spillway as archives, without a container daemon.
package main

func main() {}
