package chroot

import "fmt"

// User is the account that packages are built as.
type User struct {
	Name     string
	UID, GID int
	Home     string
}

// DefaultBuilder returns the user of D8: a fixed name and fixed ids, so that
// images are alike everywhere, above the ranges that Debian's packages
// allocate from (Policy 9.2.2), and a home that does not exist.
func DefaultBuilder() User {
	return User{Name: "builder", UID: 1234, GID: 1234, Home: "/nonexistent"}
}

// passwd, group, shadow and gshadow are the lines of the account files, see
// passwd(5), group(5), shadow(5) and gshadow(5). Nobody can log in; day is the
// day of the last password change.
func (u User) passwd() string {
	return fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", u.Name, u.UID, u.GID, u.Home)
}
func (u User) group() string { return fmt.Sprintf("%s:x:%d:", u.Name, u.GID) }
func (u User) shadow(day int64) string {
	return fmt.Sprintf("%s:*:%d:0:99999:7:::", u.Name, day)
}
func (u User) gshadow() string { return fmt.Sprintf("%s:*::", u.Name) }
