package device

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestRemoveSocket_OnlyOneThatNobodyAnswersAt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wireguard")
	if err := removeSocket(dir, "spillway0"); err != nil {
		t.Errorf("none: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "spillway0.sock")})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false) // as after SIGKILL
	if err := removeSocket(dir, "spillway0"); err != nil {
		t.Errorf("one that is used: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "spillway0.sock")); err != nil {
		t.Errorf("one that is used is gone: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := removeSocket(dir, "spillway0"); err != nil {
		t.Errorf("one that is left: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is there: %v", err)
	}
}
