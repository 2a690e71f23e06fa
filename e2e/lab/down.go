package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Down ends everything and removes every trace but the cached binaries. It may
// be called several times, also on a lab that is half up.
func (l *Lab) Down(ctx context.Context) error {
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return nil
	}
	procs := l.procs
	l.mu.Unlock()
	// In the order in which they depend on each other: what was started on top
	// of the clusters may want to say goodbye.
	var errs []error
	for i := len(procs) - 1; i >= 0; i-- {
		errs = append(errs, procs[i].Stop(ctx))
	}
	errs = append(errs, erase(ctx, l.Name()))
	for _, c := range l.clusters {
		c.close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take lab %s down: %w", l.Name(), err)
	}
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	return l.lock.Close()
}

// Sweep removes what labs of this user left whose owner is dead. Labs with a
// living owner are not touched.
func Sweep(ctx context.Context) error {
	names, err := Names()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, sweep(ctx, name))
	}
	errs = append(errs, sweepClaims())
	return errors.Join(errs...)
}

func sweep(ctx context.Context, name string) error {
	lock, err := lockDead(ctx, name)
	if errors.Is(err, errLocked) || errors.Is(err, os.ErrNotExist) {
		return nil // alive, or gone meanwhile
	}
	if err != nil {
		return fmt.Errorf("look at lab %s: %w", name, err)
	}
	defer lock.Close()
	return erase(ctx, name)
}

// lockDead takes the lock of a lab whose owner is dead. It waits for those that
// may hold it a moment longer: a child that the owner was just starting, or
// another sweeper.
func lockDead(ctx context.Context, name string) (*os.File, error) {
	path := filepath.Join(Dir(name), lockFile)
	lock, err := lockNow(path)
	if !errors.Is(err, errLocked) {
		return lock, err
	}
	if s, stateErr := ReadState(name); stateErr != nil || s.Owner.running() {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	_ = poll(ctx, 10*time.Millisecond, func(context.Context) (bool, error) {
		lock, err = lockNow(path)
		return !errors.Is(err, errLocked), err
	})
	return lock, err // of the last try
}

// sweepClaims removes state directories that were never finished: their owner
// died within the first milliseconds.
func sweepClaims() error {
	left, err := filepath.Glob(filepath.Join(Root(), ".new-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > time.Minute {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// ErrInUse says that a lab belongs to a living process that has not agreed to
// end it.
var ErrInUse = errors.New("the lab is in use")

// ownerEnds is how long an owner may take to end its lab when asked to.
const ownerEnds = 60 * time.Second

// DownNamed removes the lab of that name, whoever made it and whatever is left
// of it. An owner that serves (see Options.Serve) is asked to end it; another
// living owner is an ErrInUse, unless force: then it is killed.
func DownNamed(ctx context.Context, name string, force bool) error {
	if _, err := os.Stat(Dir(name)); err != nil {
		left, _ := marked(name)
		if len(left) == 0 {
			return fmt.Errorf("%w: %s", ErrNotFound, name)
		}
		return erase(ctx, name)
	}
	if Alive(name) {
		if err := endOwner(ctx, name, force); err != nil {
			return err
		}
	}
	return sweep(ctx, name)
}

func endOwner(ctx context.Context, name string, force bool) error {
	s, err := ReadState(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !s.Serve && !force {
		return fmt.Errorf("%w: lab %s belongs to process %s, which still runs; end that first, or force it", ErrInUse, name, s.Owner)
	}
	if !s.Owner.running() {
		return nil
	}
	signal := syscall.SIGTERM
	if !s.Serve {
		signal = syscall.SIGKILL
	}
	if err := syscall.Kill(s.Owner.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the owner of lab %s, process %s: %w", name, s.Owner, err)
	}
	wait, cancel := context.WithTimeout(ctx, ownerEnds)
	defer cancel()
	err = poll(wait, 50*time.Millisecond, func(context.Context) (bool, error) { return !Alive(name), nil })
	if err == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Owner.kill(); err != nil {
		return err
	}
	return poll(ctx, 50*time.Millisecond, func(context.Context) (bool, error) { return !Alive(name), nil })
}

// erase removes all traces of a lab whose owner is dead or is the caller:
// processes first, then what real nodes left in the kernel, then the files.
func erase(ctx context.Context, name string) error {
	if err := killMarked(ctx, name); err != nil {
		return err
	}
	if err := cleanReal(ctx, name); err != nil {
		return fmt.Errorf("remove the real nodes of lab %s: %w", name, err)
	}
	if err := killMarked(ctx, name); err != nil {
		return err
	}
	if err := os.RemoveAll(Dir(name)); err != nil {
		return fmt.Errorf("remove the files of lab %s: %w", name, err)
	}
	_ = os.Remove(Root()) // when this was the last one
	return nil
}

// killTimeout is how long killed processes may take to go away.
const killTimeout = 30 * time.Second

// killMarked kills the lab's processes until none is left: a dying one may
// just have started another.
func killMarked(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	return poll(ctx, 20*time.Millisecond, func(context.Context) (bool, error) {
		left, err := marked(name)
		if err != nil || len(left) == 0 {
			return err == nil, err
		}
		var names []string
		for _, p := range left {
			names = append(names, p.String())
			err = errors.Join(err, p.kill())
		}
		return false, errors.Join(err, fmt.Errorf("still running: %s", strings.Join(names, ", ")))
	})
}

// kill ends that very process; one that is gone is no error.
func (p ProcessState) kill() error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", p, err)
	}
	return nil
}
