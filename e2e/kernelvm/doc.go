// Package kernelvm tries the tunnel with the kernel's own WireGuard, on machines whose kernel has none: its test boots
// Debian's cloud kernel in an emulator, with package guest as the first and only program, and reads on the console what
// came of it. It takes about 20 s, needs no rights, and is skipped with a word where the emulator or the kernel cannot
// be had.
//
//	go test -v ./e2e/kernelvm
package kernelvm
