# Empties the folder FOLDER; with OLDER_THAN_MINUTES deletes the runs' folders in it that nobody has changed for so long.
#
# What is in them is the work of pushed code: any names, any depth, links to anywhere, folders that may not be entered. So
# nothing here names a file or follows a link, and age is the time since the last change (ctime), which no program can set.
set -eu

empty() {
  cd "$1" || return 1
  find . -mindepth 1 -delete 2> /dev/null && return
  # Something is closed. Not opened beforehand, because that takes as long as the rest.
  find . -mindepth 1 -maxdepth 1 -type d -exec chmod -R u+rwX {} + || true
  find . -mindepth 1 -delete
}

if [ -z "${OLDER_THAN_MINUTES:-}" ]; then
  empty "$FOLDER"
  exit
fi
problems=0
# The folders of runs have their uids for names. A volume may have others at its root, such as lost+found.
for folder in $(find "$FOLDER" -mindepth 1 -maxdepth 1 -type d -cmin "+$OLDER_THAN_MINUTES" \
  -name '????????-????-????-????-????????????'); do
  if (empty "$folder") && rmdir "$folder"; then
    echo "deleted $folder"
  else
    problems=1
  fi
done
exit "$problems"
