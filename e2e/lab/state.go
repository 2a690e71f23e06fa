package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// State is what a lab's state.json says: enough to show the lab and to remove
// it when its owner is gone.
type State struct {
	Name     string         `json:"name"`
	Owner    ProcessState   `json:"owner"`
	Serve    bool           `json:"serve,omitempty"` // the owner ends the lab on SIGTERM
	Ready    bool           `json:"ready"`
	Created  time.Time      `json:"created"`
	Clusters []ClusterState `json:"clusters"`
	// Processes that were started, oldest first. Those of real nodes are not
	// here: they carry the mark, see markedProcesses.
	Processes []ProcessState `json:"processes,omitempty"`
}

// ClusterState is the part of a State about one cluster.
type ClusterState struct {
	Name        string `json:"name"`
	Server      string `json:"server"` // direct URL
	Proxy       string `json:"proxy"`  // URL through the proxy
	PodCIDR     string `json:"podCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`
	Simulated   int    `json:"simulatedNodes"`
	Real        int    `json:"realNodes"`
}

// ProcessState identifies a process even when its number was used again.
type ProcessState struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

const (
	stateFile = "state.json"
	lockFile  = "owner.lock"
	// markEnv is set in the environment of every process of a lab, to its name.
	markEnv = "SPILLWAY_LAB"
	// rootEnv moves the folder that holds the state directories.
	rootEnv = "SPILLWAY_LAB_DIR"
)

// Root is the folder that holds one state directory per lab of this user:
// $SPILLWAY_LAB_DIR, else /var/tmp/spillway-lab-UID. It is short, since Unix
// sockets live in it, and on a disk, since an overlay file system cannot hold
// the real nodes' containers.
func Root() string {
	if d := os.Getenv(rootEnv); d != "" {
		return d
	}
	return fmt.Sprintf("/var/tmp/spillway-lab-%d", os.Getuid())
}

// Dir is the state directory of the lab of that name.
func Dir(name string) string { return filepath.Join(Root(), name) }

// newDir makes a folder in Root. The last lab to go removes Root, perhaps just
// now: hence the second try.
func newDir() (string, error) {
	for try := 0; ; try++ {
		if err := makeRoot(); err != nil {
			return "", err
		}
		tmp, err := os.MkdirTemp(Root(), ".new-")
		if err == nil || try == 3 || !errors.Is(err, os.ErrNotExist) {
			return tmp, err
		}
	}
}

// makeRoot makes Root for this user alone.
func makeRoot() error {
	if err := os.MkdirAll(Root(), 0o700); err != nil {
		return fmt.Errorf("make the labs' folder: %w", err)
	}
	info, err := os.Lstat(Root())
	if err != nil {
		return fmt.Errorf("look at the labs' folder: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a folder of this user: remove it, or set %s to another", Root(), rootEnv)
	}
	return nil
}

// claim makes the state directory with its first state in one step, so that
// nobody sees a lab without an owner. The lock is held as long as the owner
// lives and does not close it.
func claim(s State) (*os.File, error) {
	tmp, err := newDir()
	if err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	lock, err := fillNew(tmp, s)
	if err == nil {
		err = os.Rename(tmp, Dir(s.Name))
	}
	if err == nil {
		return lock, nil
	}
	if lock != nil {
		_ = lock.Close()
	}
	_ = os.RemoveAll(tmp)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w: %s", ErrExists, s.Name)
	}
	return nil, fmt.Errorf("make the state directory of lab %s: %w", s.Name, err)
}

func fillNew(dir string, s State) (*os.File, error) {
	lock, err := lockNow(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"log", "run"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return lock, err
		}
	}
	return lock, writeState(dir, s)
}

// errLocked says that another process holds the lock.
var errLocked = errors.New("locked by another process")

// lockNow takes an exclusive lock on the file, or returns errLocked at once.
// The lock goes with the file's closing or the process's end.
func lockNow(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, err
}

func writeState(dir string, s State) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, stateFile), append(data, '\n'), 0o600)
}

// writeFile replaces the file in one step.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// ReadState reads the state of the lab of that name; ErrNotFound when there is
// none.
func ReadState(name string) (State, error) {
	var s State
	data, err := os.ReadFile(filepath.Join(Dir(name), stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return s, fmt.Errorf("read the state of lab %s: %w", name, err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read the state of lab %s: %w", name, err)
	}
	return s, nil
}

// Names lists the labs of this user, with or without a living owner.
func Names() ([]string, error) {
	entries, err := os.ReadDir(Root())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Alive says whether the process that owns the lab still runs.
func Alive(name string) bool {
	lock, err := lockNow(filepath.Join(Dir(name), lockFile))
	if err == nil {
		_ = lock.Close()
	}
	return errors.Is(err, errLocked)
}

func self() ProcessState {
	pid := os.Getpid()
	start, _ := startTime(pid)
	return ProcessState{Name: filepath.Base(os.Args[0]), PID: pid, Start: start}
}

func (p ProcessState) String() string { return p.Name + " (" + strconv.Itoa(p.PID) + ")" }
