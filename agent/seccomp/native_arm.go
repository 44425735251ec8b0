package seccomp

func native() table { return tableARM }
