package device

import (
	"errors"
	"syscall"
)

// absent says that the kernel has no WireGuard, or lets this process make no link of it.
func absent(err error) bool {
	return errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPROTONOSUPPORT) || errors.Is(err, syscall.ENOTSUP)
}
