// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Standby starts a hot standby that follows this server, with the same logins and the same superuser.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	standby := &Server{Host: s.Host, Version: s.Version, Authority: s.Authority, Password: s.Password, options: s.options, bin: s.bin, account: s.account}
	var err error
	if standby.dir, err = scratch(s.options.Dir, s.account); err != nil {
		return nil, err
	}
	if standby.Port, err = freePort(s.options.Listen); err != nil {
		return nil, err
	}
	if err := s.backup(ctx, standby); err != nil {
		standby.Stop()
		return nil, err
	}
	if err := standby.run(ctx); err != nil {
		standby.Stop()
		return nil, err
	}
	return standby, nil
}

// backup copies the data as described in PostgreSQL's "Making a Base Backup Using the Low Level API".
func (s *Server) backup(ctx context.Context, into *Server) error {
	conn, err := s.Connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "SELECT pg_backup_start('pgtest', true)"); err != nil {
		return fmt.Errorf("starting a backup: %w", err)
	}
	skip := map[string]bool{"postmaster.pid": true, "postmaster.opts": true}
	if err := copyTree(s.data(), into.data(), s.account, skip); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		return fmt.Errorf("ending a backup: %w", err)
	}
	if err := copyTree(filepath.Join(s.data(), "pg_wal"), filepath.Join(into.data(), "pg_wal"), s.account, nil); err != nil {
		return err
	}
	settings := map[string]string{
		"port":             strconv.Itoa(into.Port),
		"primary_conninfo": fmt.Sprintf("host=%s port=%d user=%s password=%s", s.Host, s.Port, Superuser, s.Password),
	}
	for name, text := range map[string]string{
		"data/backup_label": label, "data/standby.signal": "", "data/postgresql.auto.conf": render(settings),
	} {
		if _, err := into.write(name, text); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies folders, files and symbolic links, and changes their owner. A file that vanishes in the meantime is
// skipped.
func copyTree(from, to string, owner *account, skip map[string]bool) error {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil || skip[relative] {
			return err
		}
		return copyEntry(path, filepath.Join(to, relative), entry, owner)
	})
	if err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return nil
}

func copyEntry(from, to string, entry fs.DirEntry, owner *account) error {
	info, err := entry.Info()
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir():
		err = os.MkdirAll(to, info.Mode().Perm())
	case info.Mode()&fs.ModeSymlink != 0:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	default:
		err = copyFile(from, to, info.Mode().Perm())
	}
	if err != nil || !exists(to) {
		return err
	}
	return owner.own(to)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
