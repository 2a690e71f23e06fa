package device

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// socketDirectory is where wireguard-go has its configuration sockets, and wgctrl looks for them.
const socketDirectory = "/var/run/wireguard"

// RemoveSocket removes the configuration socket that a process which was killed left of a userspace device, and the directory when
// nothing else is in it. One that somebody still answers at stays. No error if there is none.
func RemoveSocket(name string) error { return removeSocket(socketDirectory, name) }

func removeSocket(directory, name string) error {
	file := filepath.Join(directory, name+".sock")
	conn, err := net.Dial("unix", file)
	switch {
	case err == nil:
		return conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		err = os.Remove(file)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the configuration socket of device %s: %w", name, err)
	}
	err = os.Remove(directory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EBUSY) &&
		!errors.Is(err, syscall.EROFS) && !errors.Is(err, fs.ErrPermission) { // somebody else's, or a mount of the container
		return fmt.Errorf("remove %s: %w", directory, err)
	}
	return nil
}
